"""The Lorenz system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_regimes.pde.ode_system import ODESystem
from lightning_regimes.pde.points import Domain


@dataclass(frozen=True)
class Lorenz(ODESystem):
    """A chaotic system: ``ẋ = σ (y − x)``, ``ẏ = x (ρ − z) − y``, ``ż = x y − β z``.

    Nothing is conserved. ``½ (x² + y² + (z − ρ − σ)²)`` changes at the rate ``−σ x² − y² − β z² + β (ρ + σ) z``, which
    keeps trajectories bounded. Errors grow by about ``e^{0.9 t}``, so the usual duration is short.

    Attributes:
        sigma: ``σ``.
        rho: ``ρ``; chaotic above about 24.7.
        beta: ``β``.

    References:
        E. N. Lorenz, "Deterministic nonperiodic flow", Journal of the Atmospheric Sciences 20, 1963.
    """

    state_names: ClassVar[tuple[str, ...]] = ("x", "y", "z")
    coefficient: ClassVar[str] = "rho"
    duration: ClassVar[float] = 2.0

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8 / 3

    def __post_init__(self) -> None:
        for name in ("sigma", "rho", "beta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}.")

    @property
    def start_box(self) -> Domain:
        """``x, y ∈ [−15, 15]``, ``z ∈ [10, 40]``, about the attractor of the standard coefficients."""
        return ((-15.0, 15.0), (-15.0, 15.0), (10.0, 40.0))

    def derivative(self, states: Tensor) -> Tensor:
        """Return ``(σ (y − x), x (ρ − z) − y, x y − β z)``."""
        x, y, z = states.unbind(dim=-1)
        return torch.stack([self.sigma * (y - x), x * (self.rho - z) - y, x * y - self.beta * z], dim=-1)

    def quantities(self, states: Tensor) -> dict[str, Tensor]:
        """Return ``½ (x² + y² + (z − ρ − σ)²)``."""
        x, y, z = states.unbind(dim=-1)
        return {"distance": 0.5 * (x**2 + y**2 + (z - self.rho - self.sigma) ** 2)}

    def quantity_rates(self, states: Tensor) -> dict[str, Tensor]:
        """Return ``−σ x² − y² − β z² + β (ρ + σ) z``."""
        x, y, z = states.unbind(dim=-1)
        gain = self.beta * (self.rho + self.sigma) * z
        return {"distance": gain - self.sigma * x**2 - y**2 - self.beta * z**2}
