"""The Fisher reaction–diffusion equation."""

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
from lightning_regimes.pde.points import Domain
from lightning_regimes.pde.problem import Problem
from lightning_regimes.pde.reaction import gaussian_hump
from lightning_regimes.pde.reference import PeriodicReference
from lightning_regimes.pde.strang import strang


@dataclass(frozen=True)
class ReactionDiffusion(Problem):
    """Growth and spreading: ``u_t = ν u_xx + ρ u (1 − u)``, ``u(x, 0) = h(x)``, periodic in ``x ∈ [0, 2π]``.

    The initial hump is ``h = exp(−½ ((x − π) / width)²)``.

    Attributes:
        nu: diffusivity ``ν``.
        rho: growth rate ``ρ``.
        width: width of the initial hump, π/4 by default.

    References:
        A. Krishnapriyan et al., "Characterizing possible failure modes in physics-informed neural networks",
        NeurIPS 2021, arXiv:2109.01050, section 3.
    """

    coefficient: ClassVar[str] = "rho"
    exact_conditions: ClassVar[tuple[str, ...]] = ("initial", "periodic")

    nu: float = 5.0
    rho: float = 5.0
    width: float = math.pi / 4

    def __post_init__(self) -> None:
        if self.nu < 0:
            raise ValueError(f"`nu` must not be negative, got {self.nu}: the equation would be ill-posed.")
        if self.width <= 0:
            raise ValueError(f"`width` must be positive, got {self.width}.")

    @property
    def domain(self) -> Domain:
        """``x ∈ [0, 2π]``, ``t ∈ [0, 1]``."""
        return ((0.0, 2 * math.pi), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The initial hump, and periodicity of values and slopes in ``x``."""
        return (
            Value("initial", self.domain, axis=1, target=self._initial),
            Periodic("periodic", self.domain, axis=0),
            Periodic("periodic_slope", self.domain, axis=0, order=1),
        )

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``u_t − ν u_xx − ρ u (1 − u)``."""
        points = differentiable(points)
        values = field(points)
        slope = gradient(values, points)
        u_xx = gradient(slope[:, 0], points)[:, :1]
        return slope[:, 1:] - self.nu * u_xx - self.rho * values * (1 - values)

    def solution(self, points: Tensor) -> Tensor:
        """Return the reference solution (Strang splitting in Fourier space), without a gradient."""
        return reference_solution(self.nu, self.rho, self.width)(points)

    def ansatz(self, field: Field) -> Field:
        """Return ``h(x) + t v(x, t)`` with ``v`` the field made periodic in ``x``."""
        periodic = periodic_field(field, self.domain, axis=0)
        return lambda points: self._initial(points) + unit_coordinate(points, self.domain, 1) * periodic(points)

    def _initial(self, points: Tensor) -> Tensor:
        return gaussian_hump(points[:, :1], self.width)


def integrate(nu: float, rho: float, width: float, *, num_steps: int, size: int = 256) -> NDArray[np.float64]:
    """Return the solution on ``size`` equidistant places at ``num_steps + 1`` times, by Strang splitting."""
    place = torch.arange(size, dtype=torch.float64) * (2 * math.pi / size)
    modes = np.arange(size // 2 + 1, dtype=np.float64)

    def logistic(values: NDArray[np.float64], time: float) -> NDArray[np.float64]:
        grown: NDArray[np.float64] = values * np.exp(rho * time)
        return grown / (grown + 1 - values)

    return strang(gaussian_hump(place, width).numpy(), -nu * modes**2, logistic, duration=1.0, num_steps=num_steps)


@lru_cache(maxsize=8)
def reference_solution(nu: float, rho: float, width: float) -> PeriodicReference:
    """Return the reference solution, integrated once for each set of coefficients."""
    # Every fourth of 2000 steps: the splitting error is below 1e-6, and the spline needs no finer times.
    values = integrate(nu, rho, width, num_steps=2000)[::4]
    return PeriodicReference(values, interval=(0.0, 2 * math.pi), duration=1.0)
