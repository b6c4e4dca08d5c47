"""Figure of a loss surface on two axes: its contours, its basins, and the path of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from lightning_regimes.landscape.basin_boundaries import basin_boundaries
from lightning_regimes.landscape.figure_colours import DEFAULT_COLOURS, FigureColours
from lightning_regimes.landscape.loss_scale import LossScale, loss_scale, plain
from lightning_regimes.landscape.merge_tree import MergeTree, merge_tree
from lightning_regimes.landscape.surface import LossSurface
from lightning_regimes.landscape.surface_labels import axis_label, counted, in_two_lines, point_label, require_dim
from lightning_regimes.landscape.tree_simplification import most_persistent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# More would hide the surface.
_MAX_MINIMA = 40
# One axis may be as many times as long as the other before their scales are no longer the same.
_MAX_ASPECT = 4.0
# Inches from which on two entries of the legend fit beside each other.
_WIDE = 5.5


def draw_contour(
    surface: LossSurface,
    *,
    trajectory: ArrayLike | None = None,
    steps: Sequence[int] | None = None,
    tree: MergeTree | None = None,
    colours: FigureColours = DEFAULT_COLOURS,
    size: tuple[float, float] = (6.0, 5.0),
) -> Figure:
    """Draw the loss over two axes by its contours, with the point itself, the minima and their basins.

    The levels are logarithmic, over the loss minus its minimum, where that spans decades. Squares of the grid with a
    corner that is not finite are hatched. Of more than 40 minima, the most persistent ones are marked.

    Args:
        surface: in two directions.
        trajectory: coordinates of the points that training went through, shape (m, 2) or more columns, of which the
            first two are drawn.
        steps: of these points.
        tree: merge tree of the surface; default: computed.
        colours: of all but the contours.
        size: in inches.

    Raises:
        ValueError: the surface has another number of directions, or is finite nowhere.
    """
    from matplotlib.figure import Figure

    require_dim(surface, 2)
    scale = loss_scale(surface.values)
    figure = Figure(figsize=size, dpi=150, layout="compressed")
    axes = figure.subplots()
    _fill(axes, surface, scale, colours)
    first, second = surface.axes
    ratio = np.ptp(first) / np.ptp(second)
    axes.set(
        xlabel=axis_label(surface, 0),
        ylabel=in_two_lines(axis_label(surface, 1), width=45),
        xlim=first[[0, -1]],
        ylim=second[[0, -1]],
        aspect="equal" if 1 / _MAX_ASPECT <= ratio <= _MAX_ASPECT else "auto",
    )
    _mark_basins(axes, surface, merge_tree(surface.values) if tree is None else tree)
    if trajectory is not None:
        _draw_path(axes, np.atleast_2d(np.asarray(trajectory, dtype=np.float64))[:, :2], steps, colours)
    if (label := point_label(surface)) is not None:
        axes.plot(
            0,
            0,
            "*",
            markersize=11,
            color=colours.contrast,
            markeredgecolor="white",
            markeredgewidth=0.7,
            label=label,
            zorder=6,
            linestyle="",
        )
    anchors = surface.metadata.get("directions", {}).get("anchors", ())[1:]
    for index, anchor in enumerate(anchors, start=1):
        axes.plot(*anchor, "s", markersize=5, color="white", markeredgecolor="black", zorder=5)
        axes.annotate(f" {index}", anchor, color="white")
    axes.locator_params(nbins=5)
    axes.grid(visible=False)
    figure.legend(loc="outside upper left", ncols=2 if size[0] > _WIDE else 1, frameon=False, fontsize="small")
    return figure


def _fill(axes: Axes, surface: LossSurface, scale: LossScale, colours: FigureColours) -> None:
    from matplotlib.patches import Rectangle

    if surface.num_nonfinite:
        # What the contours do not cover shows the axes' own background.
        axes.patch.set(hatch="////", edgecolor=colours.muted, linewidth=0)
        label = f"not finite at {counted(surface.num_nonfinite, 'point', 'points')}"
        axes.add_patch(
            Rectangle((0, 0), 0, 0, facecolor="none", edgecolor=colours.muted, hatch="////", linewidth=0, label=label)
        )
    heights = np.ma.masked_invalid(scale.heights(surface.values)).T
    options: dict[str, Any] = {"levels": scale.levels, "corner_mask": False}
    filled = axes.contourf(
        *surface.axes,
        heights,
        norm=scale.norm(),
        cmap=colours.loss,
        extend="min" if scale.is_logarithmic else "neither",
        **options,
    )
    filled.set_rasterized(True)
    axes.contour(*surface.axes, heights, colors="black", alpha=0.3, linewidths=0.5, **options)
    bar = axes.figure.colorbar(filled, ax=axes, pad=0.02, aspect=28, label=scale.label)
    bar.outline.set_visible(False)
    shown = scale.levels[:: 1 + len(scale.levels) // 12]
    bar.set_ticks(shown.tolist(), labels=[plain(level) for level in shown], minor=False)
    bar.minorticks_off()
    if bar.solids is not None:
        bar.solids.set_rasterized(True)


def _mark_basins(axes: Axes, surface: LossSurface, whole: MergeTree) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.patheffects import Normal, Stroke

    tree = most_persistent(whole, _MAX_MINIMA)
    label = f"{counted(tree.num_minima, 'minimum', 'minima')} of the grid"
    if tree.num_minima < whole.num_minima:
        label = f"{tree.num_minima} most persistent of {whole.num_minima} minima"
    if tree.num_minima > 1:
        label += ", with basins"
        sides = basin_boundaries(tree.basins, (surface.axes[0], surface.axes[1]))
        halo = [Stroke(linewidth=1.8, foreground="black", alpha=0.5), Normal()]
        axes.add_collection(LineCollection(list(sides), colors="white", linewidths=0.9, path_effects=halo, zorder=3))
    i, j = np.unravel_index(tree.minima, surface.values.shape)
    axes.plot(
        surface.axes[0][i],
        surface.axes[1][j],
        "v",
        color="white",
        markeredgecolor="black",
        markeredgewidth=0.8,
        markersize=6,
        label=label,
        clip_on=False,
        zorder=4,
    )


def _draw_path(axes: Axes, points: np.ndarray, steps: Sequence[int] | None, colours: FigureColours) -> None:
    from matplotlib.patheffects import Normal, Stroke

    named = f", steps {steps[0]} to {steps[-1]}" if steps is not None and len(steps) else ""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    (x, y), end = points[0], points[-1]
    start = "○ start" if left <= x <= right and bottom <= y <= top else "starts outside"
    halo = [Stroke(linewidth=2.6, foreground="white", alpha=0.8), Normal()]
    label = f"training{named} ({start}, ● end)"
    axes.plot(*points.T, color=colours.contrast, linewidth=1.2, path_effects=halo, label=label, zorder=5)
    for point, fill in ((points[0], "white"), (end, colours.contrast)):
        axes.plot(*point, "o", color=fill, markeredgecolor=colours.contrast, markersize=5, zorder=5)
