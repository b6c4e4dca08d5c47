"""The Helmholtz equation with a manufactured solution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_regimes.pde.ansatz import blended_boundary, vanishing_factor
from lightning_regimes.pde.conditions import Condition, Value
from lightning_regimes.pde.derivatives import Field, differentiable, gradient
from lightning_regimes.pde.points import Domain
from lightning_regimes.pde.problem import Problem


@dataclass(frozen=True)
class Helmholtz(Problem):
    """A forced standing wave: ``Δu + k² u = q`` on ``[−1, 1]²``, with ``u = sin a₁πx sin a₂πy`` on the boundary.

    The source ``q`` is chosen so that this product of sines is the solution.

    Attributes:
        frequency_x: ``a₁``.
        frequency_y: ``a₂``.
        wavenumber: ``k``.

    References:
        S. Wang, Y. Teng, P. Perdikaris, "Understanding and mitigating gradient flow pathologies in physics-informed
        neural networks", SIAM Journal on Scientific Computing 43, 2021, arXiv:2001.04536.
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x", "y")
    coefficient: ClassVar[str] = "frequency_y"
    exact_conditions: ClassVar[tuple[str, ...]] = ("boundary_x", "boundary_y")
    collocation_grid: ClassVar[tuple[int, ...]] = (129, 129)
    evaluation_grid: ClassVar[tuple[int, ...]] = (101, 101)

    frequency_x: float = 1.0
    frequency_y: float = 4.0
    wavenumber: float = 1.0

    @property
    def domain(self) -> Domain:
        """``x ∈ [−1, 1]``, ``y ∈ [−1, 1]``."""
        return ((-1.0, 1.0), (-1.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The solution's values on all four sides (zero for whole frequencies)."""
        return (
            Value("boundary_x", self.domain, axis=0, ends=(0, 1), target=self.solution),
            Value("boundary_y", self.domain, axis=1, ends=(0, 1), target=self.solution),
        )

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``u_xx + u_yy + k² u − q``."""
        points = differentiable(points)
        values = field(points)
        slope = gradient(values, points)
        u_xx = gradient(slope[:, 0], points)[:, :1]
        u_yy = gradient(slope[:, 1], points)[:, 1:]
        eigenvalue = self.wavenumber**2 - math.pi**2 * (self.frequency_x**2 + self.frequency_y**2)
        return u_xx + u_yy + self.wavenumber**2 * values - eigenvalue * self.solution(points)

    def solution(self, points: Tensor) -> Tensor:
        """Return ``sin a₁πx sin a₂πy``."""
        return torch.sin(self.frequency_x * math.pi * points[:, :1]) * torch.sin(
            self.frequency_y * math.pi * points[:, 1:]
        )

    def ansatz(self, field: Field) -> Field:
        """Return the boundary values blended into the square, plus ``(1 − x²)(1 − y²) v(x, y)``."""
        return lambda points: (
            blended_boundary(self.solution, points, self.domain)
            + vanishing_factor(points, self.domain, axes=(0, 1)) * field(points)
        )
