"""The wave equation with two standing waves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_regimes.pde.ansatz import unit_coordinate, vanishing_factor
from lightning_regimes.pde.conditions import Condition, Rate, Value
from lightning_regimes.pde.derivatives import Field, differentiable, gradient
from lightning_regimes.pde.points import Domain
from lightning_regimes.pde.problem import Problem


@dataclass(frozen=True)
class Wave(Problem):
    """A string at rest with fixed ends: ``u_tt = c² u_xx`` on ``x, t ∈ [0, 1]``, ``u_t(x, 0) = 0``.

    The solution is ``sin πx cos cπt + ½ sin βπx cos cβπt``.

    Attributes:
        c: speed of the waves.
        beta: frequency ``β`` of the second wave, a whole number so that the ends stay fixed.

    References:
        P. Rathore et al., "Challenges in training PINNs: a loss landscape perspective", ICML 2024,
        arXiv:2402.01868.
    """

    coefficient: ClassVar[str] = "c"
    exact_conditions: ClassVar[tuple[str, ...]] = ("initial", "velocity", "boundary")

    c: float = 2.0
    beta: int = 5

    def __post_init__(self) -> None:
        if self.beta != round(self.beta) or self.beta < 1:
            raise ValueError(f"`beta` must be a positive whole number, got {self.beta}: the string's ends would move.")

    @property
    def domain(self) -> Domain:
        """``x ∈ [0, 1]``, ``t ∈ [0, 1]``."""
        return ((0.0, 1.0), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Initial shape, initial velocity zero, fixed ends."""
        return (
            Value("initial", self.domain, axis=1, target=self._initial),
            Rate("velocity", self.domain, axis=1),
            Value("boundary", self.domain, axis=0, ends=(0, 1)),
        )

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``u_tt − c² u_xx``."""
        points = differentiable(points)
        slope = gradient(field(points), points)
        u_xx = gradient(slope[:, 0], points)[:, :1]
        u_tt = gradient(slope[:, 1], points)[:, 1:]
        return u_tt - self.c**2 * u_xx

    def solution(self, points: Tensor) -> Tensor:
        """Return ``sin πx cos cπt + ½ sin βπx cos cβπt``."""
        x, t = math.pi * points[:, :1], math.pi * points[:, 1:]
        slow = torch.sin(x) * torch.cos(self.c * t)
        fast = torch.sin(self.beta * x) * torch.cos(self.c * self.beta * t)
        return slow + 0.5 * fast

    def ansatz(self, field: Field) -> Field:
        """Return ``u(x, 0) + t² 4x(1 − x) v(x, t)``."""

        def satisfying(points: Tensor) -> Tensor:
            time = unit_coordinate(points, self.domain, 1)
            factor = time**2 * vanishing_factor(points, self.domain, axes=(0,))
            return self._initial(points) + factor * field(points)

        return satisfying

    def _initial(self, points: Tensor) -> Tensor:
        x = math.pi * points[:, :1]
        return torch.sin(x) + 0.5 * torch.sin(self.beta * x)
