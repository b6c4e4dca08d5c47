"""The Poisson equation with a manufactured solution."""

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
class Poisson(Problem):
    """A forced membrane: ``−Δu = 2 a²π² sin aπx sin aπy`` on ``[0, 1]²``, whose solution is ``u = sin aπx sin aπy``.

    Attributes:
        frequency: ``a``; the residual grows as its square.
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x", "y")
    coefficient: ClassVar[str] = "frequency"
    exact_conditions: ClassVar[tuple[str, ...]] = ("boundary_x", "boundary_y")
    collocation_grid: ClassVar[tuple[int, ...]] = (129, 129)
    evaluation_grid: ClassVar[tuple[int, ...]] = (101, 101)

    frequency: float = 1.0

    @property
    def domain(self) -> Domain:
        """``x ∈ [0, 1]``, ``y ∈ [0, 1]``."""
        return ((0.0, 1.0), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The solution's values on all four sides (zero for whole frequencies)."""
        return (
            Value("boundary_x", self.domain, axis=0, ends=(0, 1), target=self.solution),
            Value("boundary_y", self.domain, axis=1, ends=(0, 1), target=self.solution),
        )

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``−u_xx − u_yy − 2 a²π² sin aπx sin aπy``."""
        points = differentiable(points)
        slope = gradient(field(points), points)
        u_xx = gradient(slope[:, 0], points)[:, :1]
        u_yy = gradient(slope[:, 1], points)[:, 1:]
        return -u_xx - u_yy - 2 * (self.frequency * math.pi) ** 2 * self.solution(points)

    def solution(self, points: Tensor) -> Tensor:
        """Return ``sin aπx sin aπy``."""
        angle = self.frequency * math.pi * points
        return torch.sin(angle[:, :1]) * torch.sin(angle[:, 1:])

    def ansatz(self, field: Field) -> Field:
        """Return the boundary values blended into the square, plus ``16 x(1 − x) y(1 − y) v(x, y)``."""
        return lambda points: (
            blended_boundary(self.solution, points, self.domain)
            + vanishing_factor(points, self.domain, axes=(0, 1)) * field(points)
        )
