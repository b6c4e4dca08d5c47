"""The viscous Burgers equation and its Cole–Hopf solution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_regimes.pde.ansatz import unit_coordinate, vanishing_factor
from lightning_regimes.pde.conditions import Condition, Value
from lightning_regimes.pde.derivatives import Field, differentiable, gradient
from lightning_regimes.pde.points import Domain
from lightning_regimes.pde.problem import Problem


@dataclass(frozen=True)
class Burgers(Problem):
    """A sine that steepens into a shock: ``u_t + u u_x = ν u_xx``, ``u(x, 0) = −sin πx``, ``u(±1, t) = 0``.

    Attributes:
        nu: viscosity ``ν``; the smaller, the sharper the shock at ``x = 0``.

    References:
        M. Raissi, P. Perdikaris, G. E. Karniadakis, "Physics-informed neural networks", Journal of Computational
        Physics 378, 2019; C. Basdevant et al., Computers & Fluids 14, 1986.
    """

    coefficient: ClassVar[str] = "nu"
    coefficient_eases: ClassVar[bool] = True
    exact_conditions: ClassVar[tuple[str, ...]] = ("initial", "boundary")

    nu: float = 0.01 / math.pi

    def __post_init__(self) -> None:
        if self.nu <= 0:
            raise ValueError(f"`nu` must be positive, got {self.nu}: the inviscid shock has no smooth solution.")

    @property
    def domain(self) -> Domain:
        """``x ∈ [−1, 1]``, ``t ∈ [0, 1]``."""
        return ((-1.0, 1.0), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The initial sine, and zero at both ends."""
        return (
            Value("initial", self.domain, axis=1, target=self._initial),
            Value("boundary", self.domain, axis=0, ends=(0, 1)),
        )

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``u_t + u u_x − ν u_xx``."""
        points = differentiable(points)
        values = field(points)
        slope = gradient(values, points)
        u_xx = gradient(slope[:, 0], points)[:, :1]
        return slope[:, 1:] + values * slope[:, :1] - self.nu * u_xx

    def solution(self, points: Tensor) -> Tensor:
        """Return the Cole–Hopf solution ``−∫ sin π(x − sz) w dz / ∫ w dz``.

        The weight is ``w = exp(−z² − cos π(x − sz) / 2πν)`` with ``s = √(4νt)``. The trapezoidal rule on this analytic,
        rapidly decaying integrand converges geometrically: its error is of the order of float64 rounding.
        """
        double = points.double()
        x, t = double[:, :1], double[:, 1:]
        # Beyond this |z| the Gaussian outweighs even the largest swing 1/πν of the other exponent by e⁻⁵⁰.
        reach = math.sqrt(1 / (math.pi * self.nu) + 50)
        # In z the narrowest feature has width 1/√(2 + 2π) at t = 1 for every ν; 0.1 resolves it to rounding.
        nodes = torch.linspace(-reach, reach, 2 * math.ceil(reach / 0.1) + 1, dtype=double.dtype, device=double.device)
        angle = math.pi * (x - torch.sqrt(4 * self.nu * t) * nodes)
        weight = torch.softmax(-(nodes**2) - torch.cos(angle) / (2 * math.pi * self.nu), dim=1)
        return -(weight * torch.sin(angle)).sum(dim=1, keepdim=True).to(points.dtype)

    def ansatz(self, field: Field) -> Field:
        """Return ``−sin πx + t (1 − x²) v(x, t)``."""

        def satisfying(points: Tensor) -> Tensor:
            time = unit_coordinate(points, self.domain, 1)
            return self._initial(points) + time * vanishing_factor(points, self.domain, axes=(0,)) * field(points)

        return satisfying

    @staticmethod
    def _initial(points: Tensor) -> Tensor:
        return -torch.sin(math.pi * points[:, :1])
