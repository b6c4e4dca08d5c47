"""Initial and boundary conditions: where they hold and by how much a field misses them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from lightning_regimes.pde.derivatives import Field, differentiable, gradient
from lightning_regimes.pde.points import Domain, PointSampler, grid_points

Entry = TypeVar("Entry")

# A face of an interval, within itself.
_THE_POINT = torch.zeros(1, 0, dtype=torch.float64)


def _zero(points: Tensor) -> Tensor:
    return torch.zeros_like(points[:, :1])


@dataclass(frozen=True)
class Condition(ABC):
    """A condition on the faces of a box where one coordinate has its lowest or highest value.

    Attributes:
        name: under which its points stand in a batch and its term in the loss.
        domain: the whole box.
        axis: the coordinate that is constant on the faces.
        ends: which faces: 0 is the lower end, 1 the upper end.
    """

    name: str
    domain: Domain
    axis: int
    ends: tuple[int, ...] = (0,)

    @abstractmethod
    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return by how much the field misses the condition: ``(N, d)`` points to ``(N, m)`` residuals."""

    def grid(self, sizes: Sequence[int]) -> Tensor:
        """Return the points of the box's grid that lie on the faces, ``(N, d)`` in float64."""
        return self._on_faces(grid_points(self._face, self._without_axis(sizes)) if self._face else _THE_POINT)

    def sample(self, num_points: int, sampler: PointSampler) -> Tensor:
        """Return ``num_points`` points on each face, ``(N, d)`` in float64; one where the face is a single point."""
        return self._on_faces(sampler(self._face, num_points) if self._face else _THE_POINT)

    @property
    def _face(self) -> Domain:
        return self._without_axis(self.domain)

    def _without_axis(self, entries: Sequence[Entry]) -> tuple[Entry, ...]:
        return tuple(entry for axis, entry in enumerate(entries) if axis != self.axis)

    def _on_faces(self, inside: Tensor) -> Tensor:
        before, after = inside[:, : self.axis], inside[:, self.axis :]
        faces = []
        for end in self.ends:
            constant = inside.new_full((inside.shape[0], 1), self.domain[self.axis][end])
            faces.append(torch.cat([before, constant, after], dim=1))
        return torch.cat(faces)


@dataclass(frozen=True)
class Value(Condition):
    """The field has a given value: ``u − g`` (Dirichlet; at the initial time, the initial value).

    Attributes:
        target: ``g``, from points ``(N, d)`` to values ``(N, m)``; zero by default.
    """

    target: Callable[[Tensor], Tensor] = field(default=_zero)

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``u(p) − g(p)``."""
        return field(points) - self.target(points)


@dataclass(frozen=True)
class Rate(Condition):
    """The derivative along the constant coordinate has a given value: ``∂u/∂p_axis − g`` (initially: velocity).

    Attributes:
        target: ``g``, from points ``(N, d)`` to values ``(N, 1)``; zero by default.
    """

    target: Callable[[Tensor], Tensor] = field(default=_zero)

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``∂u/∂p_axis (p) − g(p)``."""
        points = differentiable(points)
        slope = gradient(field(points), points)[:, self.axis : self.axis + 1]
        return slope - self.target(points)


@dataclass(frozen=True)
class Periodic(Condition):
    """The field is the same at both ends of a coordinate: ``u(low) − u(high)``.

    The points lie on the lower face; the upper ones follow from them.

    Attributes:
        order: 0 compares values, 1 compares derivatives along the coordinate.
    """

    order: int = 0

    def residual(self, field: Field, points: Tensor) -> Tensor:
        """Return ``∂ᵏu(low) − ∂ᵏu(high)`` with ``k = order``."""
        low, high = self.domain[self.axis]
        shift = torch.zeros_like(points[:1])
        shift[0, self.axis] = high - low
        # One call of the field for both faces: half the cost for networks small enough to be bound by overhead.
        both = torch.cat([points, points + shift])
        if self.order == 0:
            values = field(both)
        else:
            both = differentiable(both)
            values = gradient(field(both), both)[:, self.axis : self.axis + 1]
        lower, upper = values.chunk(2)
        return lower - upper
