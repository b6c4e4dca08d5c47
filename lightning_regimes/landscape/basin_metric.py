"""A quantity at every point of a loss surface, gathered by basin."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike

from lightning_regimes.landscape.merge_tree import MergeTree
from lightning_regimes.landscape.steepest_descent import Floats

Outcome = TypeVar("Outcome")


@overload
def basin_metric(
    values: ArrayLike, tree: MergeTree, function: Callable[[Floats], float] = ..., reduce: None = None
) -> Floats: ...
@overload
def basin_metric(
    values: ArrayLike, tree: MergeTree, function: Callable[[Floats], float], reduce: Callable[[Floats], Outcome]
) -> Outcome: ...
def basin_metric(
    values: ArrayLike,
    tree: MergeTree,
    function: Callable[[Floats], float] = np.mean,
    reduce: Callable[[Floats], Outcome] | None = None,
) -> Floats | Outcome:
    """Apply a function to the values of each basin, for example to the trace of the Hessian at every point.

    Args:
        values: one number at every point of the tree's grid; those at its walls do not count.
        tree: the basins.
        function: of the values in one basin, in C order of the points; default their mean.
        reduce: of the results for all basins, in the order of ``tree.minima``; default none.

    Returns:
        What ``reduce`` returns; without it, one number for each basin.

    Raises:
        ValueError: the values are not on the tree's grid.
    """
    given = np.asarray(values, dtype=np.float64)
    if given.shape != tree.values.shape:
        raise ValueError(f"`values` must have the shape {tree.values.shape} of the tree's grid, got {given.shape}")
    labels = tree.basins.ravel()
    order = np.argsort(labels, kind="stable")[np.count_nonzero(labels < 0) :]
    parts = np.split(given.ravel()[order], np.cumsum(tree.volumes)[:-1])
    results = np.array([function(part) for part in parts], dtype=np.float64)
    return results if reduce is None else reduce(results)
