"""How far above each minimum the next event is, a meeting of basins or a parting of what lies above."""

from __future__ import annotations

import numpy as np

from lightning_regimes.landscape.merge_tree import MergeTree, merge_tree
from lightning_regimes.landscape.steepest_descent import Floats, Integers


def contour_tree_gaps(tree: MergeTree) -> Floats:
    r"""Return the height above every minimum of the next point at which the contours around it merge or part.

    .. math:: g(m) = \min\big(f(s(m)),\; \min_{x \in S \cap U(m)} f(x)\big) - f(m)

    with the first saddle s(m) of the merge tree, the basin U(m), and the set S of the points above m at which
    components of the superlevel sets merge. A basin without any of these ends at its lowest maximum. This is the next
    node of the contour tree, up to a few nodes of a rough grid, on which sublevel and superlevel sets with the same
    neighbourhood can cross.

    On :math:`\frac12 \sum_i \lambda_i x_i^2` in the box :math:`|x_i| \le r` with ascending λ, the gap tends to
    :math:`\frac12 r^2 \lambda_1` in two dimensions and to :math:`\frac12 r^2 (\lambda_1 + \lambda_2)` in three.

    Args:
        tree: the merge tree, whose ``min_persistence`` holds for the components of the superlevel sets as well.

    Returns:
        One gap for each of ``tree.minima``; zero only where the surface is flat.
    """
    is_open = np.isfinite(tree.values)
    upside_down = merge_tree(
        np.where(is_open, -tree.values, np.inf),
        connectivity=tree.connectivity,
        spacing=tree.spacing,
        min_persistence=tree.min_persistence,
    )
    gaps = np.where(tree.saddles >= 0, tree.gaps, np.inf)
    gaps = np.minimum(gaps, _lowest_rise(tree, upside_down.pairs[:, 1]))
    # What has no node above it yet is flat, or one basin up to its maximum.
    lowest_maximum = _lowest_rise(tree, upside_down.minima)
    gaps = np.where(np.isfinite(gaps), gaps, lowest_maximum)
    return np.where(np.isfinite(gaps), gaps, 0.0)


def _lowest_rise(tree: MergeTree, points: Integers) -> Floats:
    """Return how far the lowest of the points in every basin that are above its minimum is above it, or infinity."""
    values, labels = tree.values.ravel(), tree.basins.ravel()[points]
    rises = values[points] - values[tree.minima][labels]
    lowest = np.full(tree.num_minima, np.inf)
    # In one dimension, a minimum itself parts the superlevel sets.
    np.minimum.at(lowest, labels[rises > 0], rises[rises > 0])
    return lowest
