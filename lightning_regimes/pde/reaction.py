"""The logistic reaction equation."""

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


def gaussian_hump(x: Tensor, width: float) -> Tensor:
    """Return ``exp(−½ ((x − π) / width)²)``, the usual initial value of the reaction problems."""
    return torch.exp(-0.5 * ((x - math.pi) / width) ** 2)


@dataclass(frozen=True)
class Reaction(Problem):
    """Logistic growth at each place: ``u_t = ρ u (1 − u)``, ``u(x, 0) = h(x)``, periodic in ``x ∈ [0, 2π]``.

    The solution is ``h e^{ρt} / (h e^{ρt} + 1 − h)`` with the hump ``h = exp(−½ ((x − π) / width)²)``.

    Attributes:
        rho: growth rate ``ρ``.
        width: width of the initial hump, π/4 by default.

    References:
        A. Krishnapriyan et al., "Characterizing possible failure modes in physics-informed neural networks",
        NeurIPS 2021, arXiv:2109.01050, section 3.
    """

    coefficient: ClassVar[str] = "rho"
    exact_conditions: ClassVar[tuple[str, ...]] = ("initial", "periodic")

    rho: float = 5.0
    width: float = math.pi / 4

    def __post_init__(self) -> None:
        if self.width <= 0:
            raise ValueError(f"`width` must be positive, got {self.width}.")

    @property
    def domain(self) -> Domain:
        """``x ∈ [0, 2π]``, ``t ∈ [0, 1]``."""
        return ((0.0, 2 * math.pi), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The initial hump, and periodicity in ``x``."""
        return (
            Value("initial", self.domain, axis=1, target=self._initial),
            Periodic("periodic", self.domain, axis=0),
        )

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``u_t − ρ u (1 − u)``."""
        points = differentiable(points)
        values = field(points)
        return gradient(values, points)[:, 1:] - self.rho * values * (1 - values)

    def solution(self, points: Tensor) -> Tensor:
        """Return ``h e^{ρt} / (h e^{ρt} + 1 − h)``."""
        hump = self._initial(points)
        grown = hump * torch.exp(self.rho * points[:, 1:])
        return grown / (grown + 1 - hump)

    def ansatz(self, field: Field) -> Field:
        """Return ``h(x) + t v(x, t)`` with ``v`` the field made periodic in ``x``."""
        periodic = periodic_field(field, self.domain, axis=0)
        return lambda points: self._initial(points) + unit_coordinate(points, self.domain, 1) * periodic(points)

    def _initial(self, points: Tensor) -> Tensor:
        return gaussian_hump(points[:, :1], self.width)
