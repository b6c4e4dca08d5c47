"""Figures of the topology of a loss surface: its persistence diagram, its merge tree, its profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_regimes.landscape.figure_colours import DEFAULT_COLOURS, FigureColours
from lightning_regimes.landscape.loss_scale import label_numbers, plain, spans_decades
from lightning_regimes.landscape.merge_tree import MergeTree
from lightning_regimes.landscape.persistence import PersistenceDiagram
from lightning_regimes.landscape.surface_labels import counted
from lightning_regimes.landscape.tree_layout import leaf_positions
from lightning_regimes.landscape.tree_simplification import most_persistent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CLASSES = {0: ("component", "components"), 1: ("loop", "loops"), 2: ("cavity", "cavities")}


def draw_persistence_diagram(
    diagram: PersistenceDiagram, *, colours: FigureColours = DEFAULT_COLOURS, size: tuple[float, float] = (4.8, 4.8)
) -> Figure:
    """Draw the death of each class of the sublevel sets over its birth.

    The farther above the diagonal, the more persistent. Components are dots, loops squares; classes that never end are
    triangles on the upper edge. The axes are logarithmic where the values are positive and span decades.

    Args:
        diagram: in any dimensions.
        colours: of the classes.
        size: in inches.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    finite = [intervals.ravel() for intervals in diagram.intervals.values()]
    values = np.concatenate([*finite, *diagram.essential.values(), np.empty(0)])
    low, high = _limits(axes, values)
    axes.plot([low, high], [low, high], color=colours.muted, linewidth=0.8, zorder=1)
    styles = {0: ("o", colours.accent), 1: ("s", colours.contrast)}
    for dim in sorted(diagram.intervals):
        marker, colour = styles.get(dim, ("D", colours.muted))
        intervals, endless = diagram.intervals[dim], diagram.essential.get(dim, np.empty(0))
        names = _CLASSES.get(dim, ("class", "classes"))
        axes.plot(
            *intervals.T,
            marker,
            color=colour,
            markersize=5,
            markerfacecolor=colour if dim == 0 else "none",
            alpha=0.75,
            label=f"{counted(len(intervals), *names)} (H{str(dim).translate(_SUBSCRIPT)})",
        )
        if len(endless):
            top = np.full(len(endless), high)
            label = f"{counted(len(endless), *names)} without end"
            axes.plot(endless, top, "^", color=colour, markersize=7, clip_on=False, label=label, zorder=4)
    axes.set(xlabel="birth (loss)", ylabel="death (loss)", aspect="equal")
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize="small")
    return figure


def draw_merge_tree(
    tree: MergeTree,
    *,
    max_minima: int = 40,
    colours: FigureColours = DEFAULT_COLOURS,
    size: tuple[float, float] = (6.0, 4.2),
) -> Figure:
    """Draw the merge tree with the loss upwards: each minimum is a leaf, each pass a bar at which branches meet.

    The area of a dot is the share of the grid that flows to the minimum. Branches that meet lie side by side. The
    title tells how many minima are left out.

    Args:
        tree: merge tree.
        max_minima: only the most persistent minima are drawn.
        colours: of the branches.
        size: in inches.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure

    shown = most_persistent(tree, max_minima)
    heights, positions = shown.heights, leaf_positions(shown)
    top = float(shown.values[np.isfinite(shown.values)].max())
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    ends = np.where(shown.parents >= 0, heights[shown.parents], top)
    branches = np.stack([np.stack([positions, heights], 1), np.stack([positions, ends], 1)], axis=1)
    bars = [
        [(positions[children].min(), heights[node]), (positions[children].max(), heights[node])]
        for node in range(shown.num_minima, len(heights))
        if len(children := np.flatnonzero(shown.parents == node))
    ]
    axes.add_collection(LineCollection([*branches, *bars], colors=colours.ink, linewidths=1.0, capstyle="projecting"))
    shares = shown.volumes / shown.volumes.sum()
    leaves = slice(shown.num_minima)
    axes.scatter(
        positions[leaves],
        heights[leaves],
        s=12 + 400 * shares,
        color=colours.accent,
        alpha=0.85,
        linewidth=0,
        zorder=3,
    )
    axes.set(ylabel="loss", xlabel="area of a dot: its share of the grid", xlim=(-0.8, shown.num_minima - 0.2))
    axes.set_title(_tree_title(tree, shown), fontsize="small", loc="left")
    axes.set_xticks([])
    axes.margins(y=0.06)
    axes.autoscale_view(scalex=False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    if spans_decades(shown.values):
        axes.set_yscale("log")
        label_numbers(axes.yaxis)
    return figure


def draw_profile(
    tree: MergeTree,
    *,
    max_minima: int = 40,
    colours: FigureColours = DEFAULT_COLOURS,
    size: tuple[float, float] = (6.0, 4.2),
) -> Figure:
    """Draw the topological profile: nested valleys, at each loss as wide as there are grid points below it.

    Valleys that meet lie side by side on the floor of the one that they make. The title tells how many minima are left
    out.

    Args:
        tree: merge tree.
        max_minima: only the most persistent minima are drawn.
        colours: of the valleys.
        size: in inches.

    References:
        Geniesse et al., Visualizing loss functions as topological landscape profiles, arXiv:2411.12136.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba
    from matplotlib.figure import Figure

    shown = most_persistent(tree, max_minima)
    profile = shown.profile()
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    num_points = int(shown.volumes.sum())
    outlines = [
        np.column_stack([100 * outline[:, 0] / num_points, outline[:, 1]])
        for outline in map(profile.outline, range(len(profile.widths)))
    ]
    faces = [to_rgba(colours.accent, 0.6 if valley < shown.num_minima else 0.2) for valley in range(len(outlines))]
    axes.add_collection(PolyCollection(outlines, facecolors=faces, edgecolors=colours.accent, linewidths=0.4))
    axes.set(xlabel="share of the grid, %", ylabel="loss", xlim=(0, 100))
    axes.set_ylim(float(profile.bottoms.min()), float(profile.tops.max()))
    axes.set_title(_tree_title(tree, shown), fontsize="small", loc="left")
    axes.grid(visible=False, axis="x")
    if spans_decades(shown.values):
        axes.set_yscale("log")
        label_numbers(axes.yaxis)
    return figure


_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def _limits(axes: Axes, values: np.ndarray) -> tuple[float, float]:
    """Set equal limits on both axes, a little beyond the values, and return them."""
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if spans_decades(values):
        margin = (high / low) ** 0.06
        low, high = low / margin, high * margin
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
        label_numbers(axes.xaxis)
        label_numbers(axes.yaxis)
    else:
        margin = 0.06 * (high - low) or 0.5 * abs(low) or 1.0
        low, high = low - margin, high + margin
        axes.set(xlim=(low, high), ylim=(low, high))
        axes.locator_params(nbins=6)
    return low, high


def _tree_title(tree: MergeTree, shown: MergeTree) -> str:
    if shown.num_minima == tree.num_minima:
        return counted(tree.num_minima, "minimum", "minima")
    return f"{shown.num_minima} of {tree.num_minima} minima: persistence above {plain(shown.min_persistence)}"
