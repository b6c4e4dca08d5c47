"""What a differential equation offers to training: residual, conditions, solution if known, difficulty."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from lightning_regimes.pde.conditions import Condition, Periodic
from lightning_regimes.pde.derivatives import Field
from lightning_regimes.pde.points import Domain, PointSampler, grid_points


class Problem(ABC):
    """A differential equation on a box, with its conditions and, where it is known, its solution.

    Subclasses are frozen dataclasses whose fields are the coefficients of the equation.

    Attributes:
        coordinates: names of the ``d`` coordinates.
        num_fields: number of unknown functions ``m``.
        coefficient: the dataclass field that makes the problem hard, which curricula move; None without one.
        coefficient_eases: whether a large coefficient is easy, as a viscosity is.
        exact_conditions: names of the conditions that :meth:`ansatz` satisfies exactly.
        collocation_grid: grid that benchmark training points are taken from.
        evaluation_grid: grid on which errors are measured.
    """

    coordinates: ClassVar[tuple[str, ...]] = ("x", "t")
    num_fields: ClassVar[int] = 1
    coefficient: ClassVar[str | None] = None
    coefficient_eases: ClassVar[bool] = False
    exact_conditions: ClassVar[tuple[str, ...]] = ()
    collocation_grid: ClassVar[tuple[int, ...]] = (257, 101)
    evaluation_grid: ClassVar[tuple[int, ...]] = (129, 101)

    @property
    @abstractmethod
    def domain(self) -> Domain:
        """Lower and upper end of each coordinate."""

    @property
    @abstractmethod
    def conditions(self) -> tuple[Condition, ...]:
        """Initial and boundary conditions."""

    @abstractmethod
    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return by how much the field misses the equation: ``(N, d)`` points to ``(N, m)`` residuals."""

    def solution(self, points: Tensor) -> Tensor | None:
        """Return the solution at points ``(N, d)`` as ``(N, m)``, in the dtype and on the device of the points.

        None, the default, where no solution is known.
        """
        return None

    def ansatz(self, field: Field) -> Field:
        """Return a field that satisfies the conditions named in ``exact_conditions`` whatever ``field`` is.

        Raises:
            ValueError: the problem has none.
        """
        raise ValueError(f"{type(self).__name__} has no ansatz, so that its conditions can't be built into the field.")

    @property
    def coefficient_value(self) -> float:
        """The value of the coefficient that makes the problem hard.

        Raises:
            ValueError: the problem names none.
        """
        return float(getattr(self, self._coefficient))

    def with_coefficient(self, value: float) -> Self:
        """Return the same problem with another value of the coefficient that makes it hard.

        Raises:
            ValueError: the problem names none.
        """
        # `Problem` can't itself be a dataclass field owner: each equation has other coefficients.
        dataclass: Any = self
        changed: Self = dataclasses.replace(dataclass, **{self._coefficient: value})
        return changed

    @property
    def _coefficient(self) -> str:
        if self.coefficient is None:
            raise ValueError(f"{type(self).__name__} names no `coefficient` that makes it hard.")
        return self.coefficient

    def points(self, num_points: int, sampler: PointSampler) -> Tensor:
        """Return points drawn from the whole box, ``(num_points, d)`` in float64."""
        return sampler(self.domain, num_points)

    def interior_grid(self) -> Tensor:
        """Return the points of the collocation grid that lie on no face with a condition, ``(N, d)`` in float64."""
        points = grid_points(self.domain, self.collocation_grid)
        inside = torch.ones(points.shape[0], dtype=torch.bool)
        for condition in self.conditions:
            ends = (0, 1) if isinstance(condition, Periodic) else condition.ends
            for end in ends:
                inside &= points[:, condition.axis] != self.domain[condition.axis][end]
        return points[inside]

    def evaluation_points(self) -> Tensor:
        """Return the points of the evaluation grid, ``(N, d)`` in float64."""
        return grid_points(self.domain, self.evaluation_grid)
