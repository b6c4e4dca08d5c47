"""The merge tree without its least persistent minima, for pictures of many."""

from __future__ import annotations

import numpy as np

from lightning_regimes.landscape.merge_tree import MergeTree, merge_tree


def most_persistent(tree: MergeTree, max_minima: int) -> MergeTree:
    """Return the tree of the ``max_minima`` most persistent minima.

    Of minima that are equally persistent, all stay or all go; those that walls keep from all others stay.

    Raises:
        ValueError: ``max_minima`` is less than 1.
    """
    if max_minima < 1:
        raise ValueError(f"`max_minima` is at least 1, got {max_minima}")
    surplus = tree.num_minima - max_minima
    if surplus <= 0 or not len(tree.pairs):
        return tree
    persistences = np.sort(tree.persistences)
    threshold = float(persistences[min(surplus, len(persistences)) - 1])
    return merge_tree(tree.values, connectivity=tree.connectivity, spacing=tree.spacing, min_persistence=threshold)
