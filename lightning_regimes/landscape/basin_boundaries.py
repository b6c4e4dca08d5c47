"""The lines between the basins of a merge tree on a plane."""

from __future__ import annotations

import numpy as np

from lightning_regimes.landscape.steepest_descent import Floats, Integers


def basin_boundaries(basins: Integers, axes: tuple[Floats, Floats]) -> Floats:
    """Return the sides between neighbouring grid points that flow to different minima.

    Args:
        basins: minimum that each point flows to, shape (m, n); negative at walls, which have no boundary.
        axes: coordinates of the points along both axes.

    Returns:
        The ends of each side, half-way between the points: shape (number of sides, 2, 2).
    """
    x, y = (_sides(axis) for axis in axes)
    i, j = np.nonzero(_differs(basins[:-1], basins[1:]))
    across_x = np.stack([np.column_stack([x[i + 1], y[j]]), np.column_stack([x[i + 1], y[j + 1]])], axis=1)
    i, j = np.nonzero(_differs(basins[:, :-1], basins[:, 1:]))
    across_y = np.stack([np.column_stack([x[i], y[j + 1]]), np.column_stack([x[i + 1], y[j + 1]])], axis=1)
    return np.concatenate([across_x, across_y])


def _differs(first: Integers, second: Integers) -> np.ndarray:
    differs: np.ndarray = (first != second) & (first >= 0) & (second >= 0)
    return differs


def _sides(axis: Floats) -> Floats:
    """Return where the cells of the points begin and end; the outermost end at the points."""
    return np.concatenate([axis[:1], (axis[1:] + axis[:-1]) / 2, axis[-1:]])
