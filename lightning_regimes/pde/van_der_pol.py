"""The Van der Pol oscillator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_regimes.pde.ode_system import ODESystem
from lightning_regimes.pde.points import Domain


@dataclass(frozen=True)
class VanDerPol(ODESystem):
    """An oscillator with a limit cycle: ``ẍ = μ (1 − x²) ẋ − x``.

    Its energy ``½ (x² + ẋ²)`` changes at the rate ``μ (1 − x²) ẋ²``. It becomes stiff as ``μ`` grows.

    Attributes:
        mu: ``μ``, not negative.

    References:
        B. van der Pol, "On relaxation-oscillations", Philosophical Magazine 2, 1926.
    """

    state_names: ClassVar[tuple[str, ...]] = ("x", "v")
    coefficient: ClassVar[str] = "mu"
    duration: ClassVar[float] = 20.0

    mu: float = 1.0

    def __post_init__(self) -> None:
        if not self.mu >= 0:
            raise ValueError(f"`mu` must not be negative, got {self.mu}: trajectories would leave every bound.")

    @property
    def start_box(self) -> Domain:
        """``x, ẋ ∈ [−2, 2]``."""
        return ((-2.0, 2.0), (-2.0, 2.0))

    def derivative(self, states: Tensor) -> Tensor:
        """Return ``(v, μ (1 − x²) v − x)``."""
        x, v = states.unbind(dim=-1)
        return torch.stack([v, self.mu * (1 - x**2) * v - x], dim=-1)

    def quantities(self, states: Tensor) -> dict[str, Tensor]:
        """Return the energy ``½ (x² + v²)``."""
        return {"energy": 0.5 * states.square().sum(dim=-1)}

    def quantity_rates(self, states: Tensor) -> dict[str, Tensor]:
        """Return ``μ (1 − x²) v²``."""
        x, v = states.unbind(dim=-1)
        return {"energy": self.mu * (1 - x**2) * v**2}
