"""The damped pendulum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_regimes.pde.ode_system import ODESystem
from lightning_regimes.pde.points import Domain


@dataclass(frozen=True)
class DampedPendulum(ODESystem):
    """A pendulum that comes to rest: ``θ̈ = −sin θ − b θ̇``.

    Its energy ``½ θ̇² + 1 − cos θ`` falls at the rate ``b θ̇²``. The weaker the damping, the longer a learned field has
    to be right: the difficulty is ``1/b``.

    Attributes:
        damping: ``b``, not negative.

    References:
        Wang et al., the multi-regime study of scientific machine learning, arXiv:2605.29153.
    """

    state_names: ClassVar[tuple[str, ...]] = ("theta", "omega")
    coefficient: ClassVar[str] = "damping"
    duration: ClassVar[float] = 20.0

    damping: float = 1.0

    def __post_init__(self) -> None:
        if not self.damping >= 0:
            raise ValueError(f"`damping` must not be negative, got {self.damping}: the pendulum would gain energy.")

    @property
    def start_box(self) -> Domain:
        """``θ ∈ [−2, 2]``, at rest."""
        return ((-2.0, 2.0), (0.0, 0.0))

    def derivative(self, states: Tensor) -> Tensor:
        """Return ``(ω, −sin θ − b ω)``."""
        theta, omega = states.unbind(dim=-1)
        return torch.stack([omega, -torch.sin(theta) - self.damping * omega], dim=-1)

    def quantities(self, states: Tensor) -> dict[str, Tensor]:
        """Return the energy ``½ ω² + 1 − cos θ``."""
        theta, omega = states.unbind(dim=-1)
        return {"energy": 0.5 * omega**2 + 1 - torch.cos(theta)}

    def quantity_rates(self, states: Tensor) -> dict[str, Tensor]:
        """Return ``−b ω²``."""
        return {"energy": -self.damping * states[..., 1] ** 2}
