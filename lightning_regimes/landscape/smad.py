"""The saddle–minimum average distance of a loss surface, in the three senses in which it is used."""

from __future__ import annotations

import math
import warnings
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from lightning_regimes.landscape.contour_tree import contour_tree_gaps
from lightning_regimes.landscape.merge_tree import MergeTree, merge_tree

Variant = Literal["merge_tree", "persistence", "contour_tree"]
Weight = Literal["volume", "landscaper"]


def smad(
    values_or_tree: ArrayLike | MergeTree,
    variant: Variant = "merge_tree",
    *,
    normalize: bool = False,
    weight: Weight | None = None,
    min_persistence: float = 0.0,
) -> float:
    r"""Average the height of the saddles above the minima.

    .. math:: \mathrm{SMAD} = \frac1{|M|} \sum_{m \in M} [f(s(m)) - f(m)]

    - ``"merge_tree"``: M are all minima, s(m) the point at which the sublevel component of m first meets another one.
      The global minimum counts.
    - ``"persistence"``: the mean length of the finite bars in dimension 0; M is without the global minimum, and s(m)
      the point at which the component of m meets one with a lower minimum.
    - ``"contour_tree"``: s(m) is the next point at which contours around m merge or part, see `contour_tree_gaps`. On
      a single basin it measures the curvature and the box.

    The three differ by orders of magnitude on the same surface. The first two are exactly 0 for a single basin. All
    depend on the span, the resolution, the directions, the batches and the scale of the loss.

    Minima that walls of non-finite points keep from all others have no finite gap: they are left out with a warning.
    The value is infinite where only such minima are left.

    Args:
        values_or_tree: the loss on a grid, or its merge tree.
        variant: which saddles.
        normalize: divide by the range of the finite values.
        weight: ``"volume"`` weights each gap with the number of points in the basin of m,
            :math:`\sum_m g_m v_m / \sum_m v_m`; ``"landscaper"`` multiplies it with the share of the points in that
            basin before the plain mean, :math:`\frac1{|M|} \sum_m g_m v_m / n`, as Landscaper does.
        min_persistence: minima whose persistence is not above this are none, in units of the loss. The larger one of
            this and the tree's own.

    Raises:
        ValueError: no value is finite, one is -inf, or an argument is not as described.

    Example:
        >>> smad([0.0, 3.0, 1.0, 5.0])  # the minima 0 and 1 meet at 3
        2.5
        >>> smad([0.0, 3.0, 1.0, 5.0], "persistence")
        2.0

    References:
        Landscaper 1.3.1 and its development of 2026, arXiv:2602.07135.
    """
    if variant not in get_args(Variant):
        raise ValueError(f"`variant` is one of {', '.join(get_args(Variant))}, got {variant!r}")
    if weight is not None and weight not in get_args(Weight):
        raise ValueError(f"`weight` is None or one of {', '.join(get_args(Weight))}, got {weight!r}")
    if isinstance(values_or_tree, MergeTree):
        tree = values_or_tree
        if not 0 <= min_persistence <= tree.min_persistence:
            tree = merge_tree(
                tree.values,
                connectivity=tree.connectivity,
                spacing=tree.spacing,
                min_persistence=min_persistence,
            )
    else:
        tree = merge_tree(values_or_tree, min_persistence=min_persistence)

    if variant == "persistence":
        num_endless = tree.num_minima - 1 - len(tree.pairs)
        gaps = np.append(tree.persistences, np.full(num_endless, np.inf))
        volumes = np.append(tree.volumes[tree.basins.ravel()[tree.pairs[:, 0]]], np.zeros(num_endless, np.int64))
    else:
        gaps = tree.gaps if variant == "merge_tree" else contour_tree_gaps(tree)
        volumes = tree.volumes
    is_finite = np.isfinite(gaps)
    if not is_finite.all():
        num_enclosed = int((~is_finite).sum())
        warnings.warn(
            f"{num_enclosed} of {tree.num_minima} minima are walled in by non-finite points and left out of SMAD",
            stacklevel=2,
        )
        if num_enclosed == len(gaps):
            return math.inf
    gaps, volumes = gaps[is_finite], volumes[is_finite]
    if not gaps.any():
        return 0.0

    if weight == "landscaper":
        gaps = gaps * (volumes / tree.volumes.sum())
    average = float(np.average(gaps, weights=volumes if weight == "volume" else None))
    if normalize:
        finite = tree.values[np.isfinite(tree.values)]
        average /= float(finite.max() - finite.min())
    return average
