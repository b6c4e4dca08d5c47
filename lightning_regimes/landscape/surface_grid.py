"""The points of a grid, in the order in which they are evaluated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
AxisSpan = float | tuple[float, float]
Span = AxisSpan | Sequence[AxisSpan]

# The value, and whether it is there; those of this process, their sum over processes, and the copy that is returned.
_BYTES_A_POINT = 9 + 3 * 8


@dataclass(frozen=True, eq=False)
class SurfaceGrid:
    """All combinations of the coordinates on some axes, the last axis fastest, and the center if it is none of them.

    Attributes:
        axes: coordinates, ascending.
        scale: what a coordinate is multiplied by to give the coefficient of its direction.
    """

    axes: tuple[Array, ...]
    scale: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each axis."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def num_points(self) -> int:
        """Number of points on the grid."""
        return math.prod(self.shape)

    @property
    def num_evaluations(self) -> int:
        """Number of points to evaluate: one more than on the grid if the center is not on it."""
        return self.num_points + (self.center == self.num_points)

    @property
    def center(self) -> int:
        """Number of the center among the points to evaluate."""
        places = [np.flatnonzero(axis == 0) for axis in self.axes]
        if not all(len(place) for place in places):
            return self.num_points
        return int(np.ravel_multi_index([place[0] for place in places], self.shape))

    def coefficients(self, start: int, stop: int) -> Array:
        """Return the coefficients of the directions at the points from ``start`` to ``stop``, shape (points, d)."""
        places = np.unravel_index(np.arange(start, min(stop, self.num_points)), self.shape)
        rows = np.zeros((stop - start, len(self.axes)))
        for column, axis, place in zip(rows.T, self.axes, places, strict=True):
            column[: len(place)] = axis[place] * self.scale
        return rows


def grid_axes(span: Span, points: int | Sequence[int], dim: int, *, max_bytes: int) -> tuple[Array, ...]:
    """Return evenly spaced coordinates on ``dim`` axes.

    Args:
        span: half-width of an axis about 0, or its two ends; one number for all axes or one entry for each.
        points: number of points on an axis; one number for all or one for each.
        dim: number of axes.
        max_bytes: bound on what the evaluation of the grid takes.

    Raises:
        TypeError: ``span`` or ``points`` is neither a number nor a sequence.
        ValueError: a span is not positive and finite, there is a single point on an axis, there is not one of each for
            each axis, or the grid is too large.
    """
    for name, value in (("span", span), ("points", points)):
        if not _is_number(value) and not isinstance(value, Iterable):
            raise TypeError(f"`{name}` is one number or one for each of {dim} directions, got {value!r}")
    spans: list[AxisSpan] = [float(span)] * dim if _is_number(span) else list(cast(Sequence[AxisSpan], span))
    counts: list[Any] = [points] * dim if _is_number(points) else list(cast(Sequence[Any], points))
    if len(spans) != dim:
        raise ValueError(f"`span` is one number or one for each of {dim} directions, got {span!r}")
    if len(counts) != dim:
        raise ValueError(f"`points` is one number or one for each of {dim} directions, got {points!r}")
    for count in counts:
        if not _is_integer(count) or count < 2:
            raise ValueError(f"`points` is an integer and at least 2 on each axis, got {count!r}")
    num_bytes = _BYTES_A_POINT * math.prod(map(int, counts))
    if num_bytes > max_bytes:
        raise ValueError(
            f"the grid of {' × '.join(map(str, counts))} points takes {num_bytes} bytes, more than "
            f"`max_bytes`={max_bytes}; lower `points` or the number of directions"
        )
    return tuple(_axis(one, int(count)) for one, count in zip(spans, counts, strict=True))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float | np.number)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _axis(span: Any, count: int) -> Array:
    if _is_number(span):
        if not 0 < span < math.inf:
            raise ValueError(f"`span` is positive and finite, got {span}")
        # From integers, so that the axis is symmetric to the last bit and an odd number of points holds 0 itself.
        return float(span) * ((2 * np.arange(count) - (count - 1)) / (count - 1))
    ends = tuple(span) if isinstance(span, Iterable) else ()
    if len(ends) != 2 or not all(map(_is_number, ends)) or not -math.inf < ends[0] < ends[1] < math.inf:
        raise ValueError(f"`span` of an axis is a number or two ascending and finite ones, got {span!r}")
    axis = np.linspace(ends[0], ends[1], count)
    axis[np.abs(axis) < 1e-9 * (axis[1] - axis[0])] = 0.0
    return axis
