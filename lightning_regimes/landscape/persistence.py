"""The persistence diagrams of a loss surface, in every dimension of its grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from lightning_regimes.landscape.steepest_descent import Floats, grid_heights

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class PersistenceDiagram:
    """Births and deaths of the holes of the sublevel sets: components in dimension 0, loops in dimension 1, and so on.

    Attributes:
        intervals: for each dimension, (birth, death) of the classes that end, sorted; shape (m, 2).
        essential: for each dimension, births of the classes that never end, sorted; shape (m,). In dimension 0, the
            global minimum and one minimum more for each further region that walls cut off.
    """

    intervals: Mapping[int, Floats]
    essential: Mapping[int, Floats]

    def lengths(self, dim: int = 0) -> Floats:
        """Return death minus birth of the classes that end.

        Raises:
            ValueError: the diagram lacks that dimension.
        """
        intervals = intervals_of(self, dim)
        return intervals[:, 1] - intervals[:, 0]

    def figure(self) -> Figure:
        """Draw the diagram."""
        from lightning_regimes.landscape.topology_figure import draw_persistence_diagram

        return draw_persistence_diagram(self)


def persistence(values: ArrayLike, dims: Sequence[int] = (0, 1)) -> PersistenceDiagram:
    r"""Compute the persistent homology of the sublevel sets of a function on a regular grid.

    The values stand at the vertices of the cubical complex, and a cube appears with its last vertex. The components are
    then those of `merge_tree` with two neighbours an axis, and its elder-rule pairs the intervals in dimension 0. With
    the values at the top-dimensional cubes, points would be neighbours along diagonals as well.

    Args:
        values: loss on the grid, axis i along direction i. NaN and +inf are walls.
        dims: dimensions of homology, at least 0; without classes from the number of axes of the grid on.

    Raises:
        ValueError: no value is finite, one is -inf, or a dimension is negative.

    References:
        Maria, Boissonnat, Glisse, Yvinec, The GUDHI library, ICMS 2014.
    """
    from gudhi import CubicalComplex

    heights = grid_heights(values)
    if any(dim < 0 for dim in dims):
        raise ValueError(f"`dims` must not be negative, got {tuple(dims)}")
    complex_ = CubicalComplex(vertices=heights)
    complex_.compute_persistence()
    intervals, essential = {}, {}
    for dim in dims:
        found = np.empty((0, 2))
        if dim < heights.ndim:
            found = np.reshape(complex_.persistence_intervals_in_dimension(dim), (-1, 2))
        found = found[np.isfinite(found[:, 0])]
        found = found[np.lexsort((found[:, 1], found[:, 0]))]
        ends = np.isfinite(found[:, 1])
        intervals[dim] = found[ends]
        essential[dim] = found[~ends, 0]
    return PersistenceDiagram(intervals=intervals, essential=essential)


def intervals_of(diagram: PersistenceDiagram, dim: int) -> Floats:
    """Return the intervals of a dimension.

    Raises:
        ValueError: the diagram lacks that dimension.
    """
    if dim not in diagram.intervals:
        raise ValueError(f"`dim` must be one of the diagram's {tuple(diagram.intervals)}, got {dim}")
    return diagram.intervals[dim]
