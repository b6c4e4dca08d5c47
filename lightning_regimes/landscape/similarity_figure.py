"""Figures of the similarity of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_regimes.landscape.figure_colours import DEFAULT_COLOURS, FigureColours

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_regimes.landscape.cka_result import CKAResult


def draw_similarity(
    result: CKAResult,
    *,
    max_layers: int = 40,
    colours: FigureColours = DEFAULT_COLOURS,
    width: float = 6.0,
) -> Figure:
    """Draw a heat map of all pairs of layers, or a line for each of the first matching pairs.

    Args:
        result: what to draw.
        max_layers: so many matching pairs at most.
        colours: of the lines.
        width: of a figure of lines in inches; its height follows from their number.
    """
    from matplotlib.figure import Figure

    if result.pairs == "matching":
        values, names = result.values[:max_layers], result.layers[:max_layers]
        figure = Figure(figsize=(width, 1.0 + 0.2 * len(names)), layout="constrained")
        axes = figure.subplots()
        places = np.arange(len(names))
        axes.hlines(places, 0, values, color=colours.accent, linewidth=1.2)
        axes.plot(values, places, "o", color=colours.accent, clip_on=False)
        for place in places[~np.isfinite(values)]:
            axes.annotate("not defined", (0.02, place), color=colours.muted, verticalalignment="center", fontsize=8)
        axes.set_yticks(places, labels=names)
        lowest = float(np.min(values[np.isfinite(values)], initial=0.0))
        axes.set(xlim=(lowest, 1.0), ylim=(len(names) - 0.4, -0.6), xlabel="CKA")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", labelcolor=colours.ink)
        return figure
    rows, columns = len(result.layers), len(result.layers_b)
    figure = Figure(figsize=(2.4 + 0.35 * columns, 1.6 + 0.35 * rows), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(result.values, vmin=0, vmax=1, cmap=colours.loss)
    axes.set_xticks(range(columns), labels=result.layers_b, rotation=90)
    axes.set_yticks(range(rows), labels=result.layers)
    axes.set_xlabel("layer of the second network")
    axes.set_ylabel("layer of the first network")
    figure.colorbar(image, ax=axes, label="CKA")
    return figure
