"""Basins of steepest descent on a grid, and the lowest passes between them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Connectivity = Literal["von_neumann", "moore"]

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DescentBasins:
    """Where steepest descent ends, in the total order of the points by (value, flat index).

    Attributes:
        minima: flat indices of the points without a lower neighbour, ascending in the order.
        labels: position in ``minima`` of the end of every point's descent, -1 at the walls; flat.
        passes: the lowest edge between each two basins that touch, ascending in the order of its higher end, one row
            each: the two basins, and the flat index of that end; shape (number of passes, 3).
    """

    minima: Integers
    labels: Integers
    passes: Integers


def grid_heights(values: ArrayLike) -> Floats:
    """Return loss values on a grid as float64 heights, where NaN has become +inf, a wall.

    Raises:
        ValueError: the values are no grid of real numbers, one of them is -inf, or none is finite.
    """
    given = np.asarray(values)
    if given.dtype.kind not in "fiub" or given.ndim == 0 or given.size == 0:
        raise ValueError(
            "`values` must be a grid of real numbers with at least one point and one axis, got shape "
            f"{given.shape} of {given.dtype}"
        )
    heights = given.astype(np.float64)
    if np.isneginf(heights).any():
        raise ValueError("`values` must be bounded from below, got -inf")
    heights[np.isnan(heights)] = np.inf
    if np.isinf(heights).all():
        raise ValueError(f"`values` must hold a finite number, got none on a grid of shape {heights.shape}")
    return heights


def descent_basins(
    heights: Floats, *, connectivity: Connectivity = "von_neumann", spacing: float | Sequence[float] | None = None
) -> DescentBasins:
    """Follow the steepest way down from every point of a grid to a minimum.

    The slope is the difference in height over the distance; ties go to the lower neighbour in the total order by
    (value, flat index), in which each plateau has at least one lowest point. Walls, of height +inf, are no neighbours.

    Args:
        heights: from `grid_heights`.
        connectivity: neighbours along the axes, or along the diagonals as well.
        spacing: distance between neighbours, one number or one an axis; default 1.

    Raises:
        ValueError: an unknown connectivity, or a spacing that is not positive or not one an axis.
    """
    if connectivity not in get_args(Connectivity):
        raise ValueError(f"`connectivity` is one of {', '.join(get_args(Connectivity))}, got {connectivity!r}")
    distances = _distances(spacing, heights.ndim)
    order = np.argsort(heights, axis=None, kind="stable")
    rank = np.empty(heights.shape, np.int64)
    rank.ravel()[order] = np.arange(heights.size)
    offsets = list(_half_of_offsets(heights.ndim, connectivity))

    lower = np.arange(heights.size).reshape(heights.shape)
    steepest = np.zeros(heights.shape)
    open_points = np.isfinite(heights)
    flat_indices = lower.copy()
    for offset in (*offsets, *(tuple(-step for step in offset) for offset in offsets)):
        here, there = _neighbours(offset)
        downhill = open_points[here] & (rank[there] < rank[here])
        with np.errstate(invalid="ignore", over="ignore"):
            slope = (heights[here] - heights[there]) / math.hypot(*(distances * offset))
        best = lower[here]
        ahead = (slope > steepest[here]) | ((slope == steepest[here]) & (rank[there] < rank.ravel()[best]))
        chosen = downhill & ahead
        best[chosen] = flat_indices[there][chosen]
        steepest[here][chosen] = slope[chosen]

    ends = lower.ravel()
    while not np.array_equal(further := ends[ends], ends):
        ends = further
    is_minimum = (ends == flat_indices.ravel()) & open_points.ravel()
    minima = order[is_minimum[order]]
    position = np.full(heights.size, -1)
    position[minima] = np.arange(len(minima))
    labels = position[ends]
    passes = np.empty((0, 3), np.int64)
    if len(minima) > 1:
        passes = _lowest_passes(labels.reshape(heights.shape), rank, offsets)
        passes[:, 2] = order[passes[:, 2]]
    return DescentBasins(minima=minima, labels=labels, passes=passes)


def _distances(spacing: float | Sequence[float] | None, num_axes: int) -> Floats:
    distances = np.asarray(1.0 if spacing is None else spacing, dtype=np.float64)
    if distances.shape not in ((), (num_axes,)) or not (np.isfinite(distances) & (distances > 0)).all():
        raise ValueError(f"`spacing` must be positive, one number or one for each of {num_axes} axes, got {spacing}")
    return np.broadcast_to(distances, (num_axes,))


def _half_of_offsets(num_axes: int, connectivity: Connectivity) -> Iterator[tuple[int, ...]]:
    """Yield one of each pair of opposite steps to a neighbour."""
    for offset in itertools.product((-1, 0, 1), repeat=num_axes):
        is_along_axis = sum(map(abs, offset)) == 1
        if offset > (0,) * num_axes and (is_along_axis or connectivity == "moore"):
            yield offset


def _neighbours(offset: Sequence[int]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return the slices of the points that have a neighbour at this offset, and of those neighbours."""
    here = tuple(slice(max(0, -step), min(0, -step) or None) for step in offset)
    there = tuple(slice(max(0, step), min(0, step) or None) for step in offset)
    return here, there


def _lowest_passes(labels: Integers, rank: Integers, offsets: Sequence[tuple[int, ...]]) -> Integers:
    edges = []
    for offset in offsets:
        here, there = _neighbours(offset)
        crossing = (labels[here] != labels[there]) & (labels[here] >= 0) & (labels[there] >= 0)
        pair = np.sort(np.stack([labels[here][crossing], labels[there][crossing]], axis=1), axis=1)
        higher = np.maximum(rank[here], rank[there])[crossing]
        edges.append(np.column_stack([pair, higher]))
    passes = np.concatenate(edges)
    passes = passes[np.lexsort((passes[:, 2], passes[:, 1], passes[:, 0]))]
    is_first = np.ones(len(passes), dtype=bool)
    is_first[1:] = (passes[1:, :2] != passes[:-1, :2]).any(axis=1)
    passes = passes[is_first]
    result: Integers = passes[np.argsort(passes[:, 2], kind="stable")]
    return result
