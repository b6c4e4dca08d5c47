"""The Allen–Cahn equation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_regimes.pde.ansatz import periodic_field, unit_coordinate
from lightning_regimes.pde.conditions import Condition, Periodic, Value
from lightning_regimes.pde.derivatives import Field, differentiable, gradient
from lightning_regimes.pde.etdrk4 import etdrk4
from lightning_regimes.pde.points import Domain
from lightning_regimes.pde.problem import Problem
from lightning_regimes.pde.reference import PeriodicReference


@dataclass(frozen=True)
class AllenCahn(Problem):
    """Phases that separate: ``u_t = ν u_xx + ρ (u − u³)``, ``u(x, 0) = x² cos πx``, periodic in ``x ∈ [−1, 1]``.

    Attributes:
        nu: diffusivity ``ν``.
        rho: rate ``ρ`` at which the phases ``u = ±1`` form.

    References:
        M. Raissi, P. Perdikaris, G. E. Karniadakis, "Physics-informed neural networks", Journal of Computational
        Physics 378, 2019; S. Wang et al., "An expert's guide to training physics-informed neural networks",
        arXiv:2308.08468.
    """

    coefficient: ClassVar[str] = "rho"
    exact_conditions: ClassVar[tuple[str, ...]] = ("initial", "periodic")

    nu: float = 1e-4
    rho: float = 5.0

    def __post_init__(self) -> None:
        if self.nu <= 0:
            raise ValueError(f"`nu` must be positive, got {self.nu}: the phases would form discontinuities.")

    @property
    def domain(self) -> Domain:
        """``x ∈ [−1, 1]``, ``t ∈ [0, 1]``."""
        return ((-1.0, 1.0), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The initial value, and periodicity of values and slopes in ``x``."""
        return (
            Value("initial", self.domain, axis=1, target=self._initial),
            Periodic("periodic", self.domain, axis=0),
            Periodic("periodic_slope", self.domain, axis=0, order=1),
        )

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``u_t − ν u_xx − ρ (u − u³)``."""
        points = differentiable(points)
        values = field(points)
        slope = gradient(values, points)
        u_xx = gradient(slope[:, 0], points)[:, :1]
        return slope[:, 1:] - self.nu * u_xx - self.rho * (values - values**3)

    def solution(self, points: Tensor) -> Tensor:
        """Return the reference solution (ETDRK4 in Fourier space), without a gradient."""
        return reference_solution(self.nu, self.rho)(points)

    def ansatz(self, field: Field) -> Field:
        """Return ``x² cos πx + t v(x, t)`` with ``v`` the field made periodic in ``x``."""
        periodic = periodic_field(field, self.domain, axis=0)
        return lambda points: self._initial(points) + unit_coordinate(points, self.domain, 1) * periodic(points)

    @staticmethod
    def _initial(points: Tensor) -> Tensor:
        x = points[:, :1]
        return x**2 * torch.cos(math.pi * x)


def integrate(nu: float, rho: float, *, num_steps: int, size: int = 2048) -> NDArray[np.float64]:
    """Return the solution on ``size`` equidistant places at ``num_steps + 1`` times, by ETDRK4."""
    place = np.arange(size) * (2.0 / size) - 1.0
    modes = math.pi * np.arange(size // 2 + 1, dtype=np.float64)
    return etdrk4(
        place**2 * np.cos(np.pi * place),
        rho - nu * modes**2,
        lambda values: -rho * values**3,
        duration=1.0,
        num_steps=num_steps,
    )


@lru_cache(maxsize=8)
def reference_solution(nu: float, rho: float) -> PeriodicReference:
    """Return the reference solution, integrated once for each set of coefficients."""
    # 2048 places resolve the front, whose width is √(2ν/ρ) = 0.006 with the standard coefficients.
    values = integrate(nu, rho, num_steps=1000)[::5]
    return PeriodicReference(values, interval=(-1.0, 1.0), duration=1.0)
