"""Where the nodes of a merge tree stand in a picture."""

from __future__ import annotations

import numpy as np

from lightning_regimes.landscape.merge_tree import MergeTree
from lightning_regimes.landscape.steepest_descent import Floats


def leaf_positions(tree: MergeTree) -> Floats:
    """Return horizontal positions of all nodes: 0, 1, … for the minima from left to right, so that no branches cross.

    Of branches that meet, the one with the lowest minimum is on the left, the others follow by their lowest minima. A
    pass stands over the middle of its branches.
    """
    num_nodes = len(tree.parents)
    # The minima are sorted, and parents come after their children: the smallest leaf below a node is its lowest.
    lowest = np.minimum(np.arange(num_nodes), tree.num_minima)
    children: list[list[int]] = [[] for _ in range(num_nodes + 1)]
    for node, parent in enumerate(tree.parents.tolist()):
        children[parent].append(node)
        if parent >= 0:
            lowest[parent] = min(lowest[parent], lowest[node])
    positions = np.full(num_nodes, np.nan)
    next_leaf = 0
    waiting = sorted(children[-1], key=lambda node: -int(lowest[node]))
    while waiting:
        node = waiting.pop()
        if node < tree.num_minima:
            positions[node] = next_leaf
            next_leaf += 1
        waiting += sorted(children[node] if node >= tree.num_minima else [], key=lambda child: -int(lowest[child]))
    for node in range(tree.num_minima, num_nodes):
        positions[node] = (positions[children[node]].min() + positions[children[node]].max()) / 2
    return positions
