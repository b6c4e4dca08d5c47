"""Figures of a loss surface: its graph over one axis, or over two in three dimensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_regimes.landscape.contour_figure import draw_contour
from lightning_regimes.landscape.figure_colours import DEFAULT_COLOURS, FigureColours
from lightning_regimes.landscape.loss_scale import label_numbers, plain, spans_decades
from lightning_regimes.landscape.merge_tree import merge_tree
from lightning_regimes.landscape.surface import LossSurface
from lightning_regimes.landscape.surface_labels import axis_label, counted, in_two_lines, point_label, require_dim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_contour", "draw_line", "draw_surface"]

# Direction from which a surface is lit.
_LIGHT = np.array([-0.36, -0.48, 0.8])


def draw_surface(
    surface: LossSurface, *, colours: FigureColours = DEFAULT_COLOURS, size: tuple[float, float] = (6.0, 4.6)
) -> Figure:
    """Draw the loss over two axes as a surface in three dimensions.

    The height is the loss, or its logarithm where that spans decades. Squares of the grid with a corner that is not
    finite are left out.

    Args:
        surface: in two directions.
        colours: of all but the surface.
        size: in inches.

    Raises:
        ValueError: the surface has another number of directions, or is finite nowhere.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator
    from mpl_toolkits.mplot3d import Axes3D

    require_dim(surface, 2)
    is_logarithmic = spans_decades(surface.values)
    heights = np.where(np.isfinite(surface.values), surface.values, np.nan)
    heights = np.log10(heights) if is_logarithmic else heights
    low, high = float(np.nanmin(heights)), float(np.nanmax(heights))
    high = high if high > low else low + (abs(low) or 1.0) * 1e-3

    figure = Figure(figsize=size, dpi=150)
    # Axes in three dimensions are placed by hand, whatever the user's settings.
    figure.set_layout_engine("none")
    axes = Axes3D(figure, rect=(-0.02, 0.0, 0.96, 1.04), computed_zorder=False)
    figure.add_axes(axes)
    if len(squares := _squares(surface, heights)):
        axes.add_collection3d(_shaded(squares, colours))
    if (label := point_label(surface)) is not None:
        center = float(np.log10(surface.center_loss)) if is_logarithmic else surface.center_loss
        axes.plot([0, 0], [0, 0], [center, high], color=colours.ink, linewidth=0.8, zorder=5)
        axes.plot([0], [0], [center], "o", color=colours.contrast, markersize=5, zorder=6, label=label)
        figure.legend(loc="upper left", frameon=False, fontsize="small")
    axes.set(
        xlim=surface.axes[0][[0, -1]],
        ylim=surface.axes[1][[0, -1]],
        zlim=(low, high),
        xlabel=in_two_lines(axis_label(surface, 0, with_unit=False), width=32),
        ylabel=in_two_lines(axis_label(surface, 1, with_unit=False), width=32),
        zlabel="loss",
    )
    axes.locator_params(nbins=5)
    if surface.unit == "norm":
        figure.text(0.98, 0.97, "axes in units of ‖θ‖", color=colours.muted, fontsize=8, ha="right", va="top")
    if is_logarithmic:
        axes.zaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.zaxis.set_major_formatter(FuncFormatter(lambda value, position: plain(10.0**value)))
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((1, 1, 1, 0))
        axis._axinfo["grid"].update(color=colours.muted, linewidth=0.25)
        axis.line.set(color=colours.muted, linewidth=0.6)
        axis.set_tick_params(labelsize=7, pad=3 if axis is axes.zaxis else 0)
        axis.label.set_size(8)
        axis.labelpad = 9 if axis is axes.zaxis else 2 + 4 * axis.label.get_text().count("\n")
    axes.view_init(elev=32, azim=-58)
    axes.set_box_aspect((1, 1, 0.65), zoom=0.87)
    return figure


def draw_line(
    surface: LossSurface, *, colours: FigureColours = DEFAULT_COLOURS, size: tuple[float, float] = (6.0, 3.6)
) -> Figure:
    """Draw the loss along one axis, with the point itself and the minima of the grid.

    The line is broken where the loss is not finite; crosses at the bottom mark these points.

    Args:
        surface: in one direction.
        colours: of the lines.
        size: in inches.

    Raises:
        ValueError: the surface has another number of directions, or is finite nowhere.
    """
    from matplotlib.figure import Figure

    require_dim(surface, 1)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    (positions,) = surface.axes
    is_finite = np.isfinite(surface.values)
    minima = merge_tree(surface.values).minima
    axes.plot(positions, np.where(is_finite, surface.values, np.nan), color=colours.accent, marker=".", markersize=3)
    axes.plot(
        positions[minima],
        surface.values[minima],
        "v",
        markerfacecolor="none",
        color=colours.ink,
        markersize=7,
        label=f"{counted(len(minima), 'minimum', 'minima')} of the grid",
    )
    if (label := point_label(surface)) is not None:
        axes.plot(0, surface.center_loss, "o", color=colours.contrast, markersize=5, label=label)
    if missing := positions[~is_finite].tolist():
        axes.plot(
            missing,
            [0.02] * len(missing),
            "x",
            color=colours.muted,
            markersize=4,
            transform=axes.get_xaxis_transform(),
            label=f"not finite at {counted(len(missing), 'point', 'points')}",
        )
    axes.set(xlabel=axis_label(surface, 0), ylabel="loss", xlim=positions[[0, -1]])
    if spans_decades(surface.values):
        axes.set_yscale("log")
        label_numbers(axes.yaxis)
    figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize="small")
    return figure


def _squares(surface: LossSurface, heights: np.ndarray) -> np.ndarray:
    """Return the corners, in turn, of the squares of the grid that are finite: shape (squares, 4, 3)."""
    points = np.stack([*np.meshgrid(*surface.axes, indexing="ij"), heights], axis=-1)
    corners = [points[:-1, :-1], points[1:, :-1], points[1:, 1:], points[:-1, 1:]]
    squares = np.stack(corners, axis=2).reshape(-1, 4, 3)
    whole: np.ndarray = squares[np.isfinite(squares).all(axis=(1, 2))]
    return whole


def _shaded(squares: np.ndarray, colours: FigureColours) -> Any:
    import matplotlib
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    # In the box that is drawn, whatever the units: a loss in the thousands would make every face look vertical.
    low, high = squares.min(axis=(0, 1)), squares.max(axis=(0, 1))
    boxed = (squares - low) / np.where(high > low, high - low, 1.0)
    normals = np.cross(boxed[:, 2] - boxed[:, 0], boxed[:, 3] - boxed[:, 1])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    brightness = 0.72 + 0.28 * (normals @ _LIGHT).clip(min=0.0)
    faces = matplotlib.colormaps[colours.loss](boxed[:, :, 2].mean(axis=1))
    faces[:, :3] *= brightness[:, None]
    return Poly3DCollection(list(squares), facecolors=faces, linewidth=0, antialiased=False, rasterized=True)
