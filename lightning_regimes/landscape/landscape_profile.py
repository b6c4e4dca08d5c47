"""The topological profile of a loss surface: its merge tree as nested valleys, as wide as they hold grid points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_regimes.landscape.steepest_descent import Floats, Integers


@dataclass(frozen=True, eq=False)
class LandscapeProfile:
    """Nested valleys, one for each node of a merge tree: the minima first, then the merges.

    A valley holds the points of one component of the sublevel sets between the node and its parent, and everything
    below. Children lie side by side on the floor of their parent, the widest to the left.

    Attributes:
        parents: valley around each valley, -1 for a root; parents come after their children.
        centers: horizontal positions, in grid points from the left end.
        widths: number of grid points in the valley, filled to its top.
        floors: widths at the bottom, the sum over the children.
        bottoms: value at the node.
        tops: value at the parent; for a root, the highest finite value on the grid.
        levels: for each valley, the values of its own points, those of no child, ascending.
    """

    parents: Integers
    centers: Floats
    widths: Floats
    floors: Floats
    bottoms: Floats
    tops: Floats
    levels: tuple[Floats, ...]

    @property
    def depths(self) -> Floats:
        """Heights of the valleys, from bottom to top."""
        return self.tops - self.bottoms

    def outline(self, valley: int) -> Floats:
        """Return the shape of a valley as a polygon, from the top left down and up to the top right; shape (m, 2).

        At each level it is as wide as there are grid points below.
        """
        levels = self.levels[valley]
        widths = self.floors[valley] + np.arange(len(levels) + 2)
        widths[-1] = self.widths[valley]
        heights = np.concatenate([self.bottoms[valley : valley + 1], levels, self.tops[valley : valley + 1]])
        left = np.column_stack([self.centers[valley] - widths / 2, heights])
        right = np.column_stack([self.centers[valley] + widths / 2, heights])
        return np.concatenate([left[::-1], right])


def landscape_profile(values: Floats, basins: Integers, parents: Integers, heights: Floats) -> LandscapeProfile:
    """Nest the valleys of a merge tree.

    Args:
        values: the grid, +inf at walls, which have no place in the profile.
        basins: minimum that each point flows to, -1 at walls.
        parents: parent node of each node, -1 for a root.
        heights: value at each node.

    References:
        Geniesse et al., Visualizing loss functions as topological landscape profiles, arXiv:2411.12136.
    """
    is_open = basins.ravel() >= 0
    points = np.sort(values.ravel()[is_open])
    order = np.argsort(values.ravel()[is_open], kind="stable")
    nodes = _highest_below(points, basins.ravel()[is_open][order], parents, heights)
    by_node = np.argsort(nodes, kind="stable")
    own = np.bincount(nodes, minlength=len(parents))
    levels = np.split(np.maximum(points, heights[nodes])[by_node], np.cumsum(own)[:-1])

    floors = np.zeros(len(parents))
    children: list[list[int]] = [[] for _ in range(len(parents) + 1)]
    for node, parent in enumerate(parents.tolist()):
        children[parent].append(node)
        if parent >= 0:
            floors[parent] += floors[node] + own[node]
    widths = floors + own
    centers = np.zeros(len(parents))
    for parent in (-1, *reversed(range(len(parents)))):
        left = 0.0 if parent < 0 else centers[parent] - floors[parent] / 2
        for child in sorted(children[parent], key=lambda node: -widths[node]):
            centers[child] = left + widths[child] / 2
            left += widths[child]
    return LandscapeProfile(
        parents=parents,
        centers=centers,
        widths=widths,
        floors=floors,
        bottoms=heights,
        tops=np.where(parents >= 0, heights[parents], points[-1]),
        levels=tuple(levels),
    )


def _highest_below(points: Floats, leaves: Integers, parents: Integers, heights: Floats) -> Integers:
    """Return the last node on the way from each leaf to its root that is not above the value of the point."""
    ancestors = [np.where(parents >= 0, parents, np.arange(len(parents)))]
    while not np.array_equal(further := ancestors[-1][ancestors[-1]], ancestors[-1]):
        ancestors.append(further)
    nodes = leaves.copy()
    for step in reversed(ancestors):
        above = step[nodes]
        nodes = np.where(heights[above] <= points, above, nodes)
    return nodes
