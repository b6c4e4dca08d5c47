"""The linear convection (advection) equation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_regimes.pde.ansatz import periodic_field, unit_coordinate
from lightning_regimes.pde.conditions import Condition, Periodic, Value
from lightning_regimes.pde.derivatives import Field, differentiable, gradient
from lightning_regimes.pde.points import Domain
from lightning_regimes.pde.problem import Problem


@dataclass(frozen=True)
class Convection(Problem):
    """Transport of a sine wave: ``u_t + β u_x = 0``, ``u(x, 0) = sin x``, periodic in ``x ∈ [0, 2π]``, ``t ∈ [0, 1]``.

    The solution is ``sin(x − βt)``. A plain network learns it below ``β ≈ 10`` and fails from ``β ≈ 20`` on.

    Attributes:
        beta: speed ``β``.

    References:
        A. Krishnapriyan et al., "Characterizing possible failure modes in physics-informed neural networks",
        NeurIPS 2021, arXiv:2109.01050, section 3.
    """

    coefficient: ClassVar[str] = "beta"
    exact_conditions: ClassVar[tuple[str, ...]] = ("initial", "periodic")

    beta: float = 30.0

    @property
    def domain(self) -> Domain:
        """``x ∈ [0, 2π]``, ``t ∈ [0, 1]``."""
        return ((0.0, 2 * math.pi), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The initial wave, and periodicity in ``x``."""
        return (
            Value("initial", self.domain, axis=1, target=self._initial),
            Periodic("periodic", self.domain, axis=0),
        )

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``u_t + β u_x``."""
        points = differentiable(points)
        slope = gradient(field(points), points)
        return slope[:, 1:] + self.beta * slope[:, :1]

    def solution(self, points: Tensor) -> Tensor:
        """Return ``sin(x − βt)``."""
        return torch.sin(points[:, :1] - self.beta * points[:, 1:])

    def ansatz(self, field: Field) -> Field:
        """Return ``sin x + t v(x, t)`` with ``v`` the field made periodic in ``x``."""
        periodic = periodic_field(field, self.domain, axis=0)
        return lambda points: self._initial(points) + unit_coordinate(points, self.domain, 1) * periodic(points)

    @staticmethod
    def _initial(points: Tensor) -> Tensor:
        return torch.sin(points[:, :1])
