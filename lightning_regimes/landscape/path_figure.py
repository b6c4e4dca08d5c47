"""Figures of the loss along a path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lightning_regimes.landscape.figure_colours import DEFAULT_COLOURS, FigureColours
from lightning_regimes.landscape.path_losses import Floats, mean_of_ends

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_path(
    positions: Floats,
    values: Floats | Mapping[str, Floats],
    *,
    label: str,
    colours: FigureColours = DEFAULT_COLOURS,
    size: tuple[float, float] = (6.0, 3.6),
) -> Figure:
    """Draw values along a path, or along two by name, and the mean of the ends, above which a barrier rises."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    paths = values if isinstance(values, Mapping) else {"": values}
    for (name, along), colour, marker in zip(paths.items(), (colours.accent, colours.contrast), "os", strict=False):
        axes.plot(positions, along, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name or None)
    ends = mean_of_ends(next(iter(paths.values())))
    axes.axhline(ends, color=colours.muted, linewidth=0.9, linestyle=(0, (4, 3)), label="mean of the ends")
    axes.set_xlabel(label)
    axes.set_ylabel("loss or metric")
    figure.legend(loc="outside upper left", ncols=3, fontsize="small")
    return figure
