"""Figure of SMAD over a training, beside what every second point of the grid says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_regimes.landscape.figure_colours import DEFAULT_COLOURS, FigureColours
from lightning_regimes.landscape.loss_scale import plain, spans_decades

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VARIANTS = (("merge_tree", "o"), ("persistence", "s"), ("contour_tree", "^"))


def draw_smad_history(
    entries: Sequence[tuple[int, Mapping[str, float]]],
    *,
    colours: FigureColours = DEFAULT_COLOURS,
    size: tuple[float, float] = (6.0, 3.6),
) -> Figure:
    """Draw the variants of SMAD that were measured, over the steps.

    The values on every second point of the grid are dashed. Crosses at the bottom mark the steps where they differ too
    much: there, the grid decides and not the loss. Where the values span decades, the axis is logarithmic beyond the
    smallest one above zero.

    Args:
        entries: step and values: ``"landscape/smad_{variant}"``, the same with ``"_half"`` for every second point, and
            ``"landscape/aliased"``, 1 where the two differ too much. What is not there is not drawn.
        colours: of the variants.
        size: in inches.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    steps = np.array([step for step, _ in entries], dtype=np.int64)
    is_aliased = _column(entries, "landscape/aliased") == 1
    drawn = [np.empty(0)]
    for (variant, marker), colour in zip(_VARIANTS, (colours.accent, colours.contrast, colours.muted), strict=True):
        values = _column(entries, f"landscape/smad_{variant}")
        if not np.isfinite(values).any():
            continue
        half = _column(entries, f"landscape/smad_{variant}_half")
        name = variant.replace("_", " ")
        axes.plot(steps, values, color=colour, marker=marker, markersize=4, label=name, zorder=3)
        if np.isfinite(half).any():
            label = f"{name}, every second point"
            axes.plot(steps, half, color=colour, linestyle=(0, (4, 2)), linewidth=1.0, alpha=0.8, label=label)
        drawn += [values, half]
    shown = np.concatenate(drawn)
    positive = shown[np.isfinite(shown) & (shown > 0)]
    if spans_decades(positive):
        axes.set_yscale("symlog", linthresh=float(positive.min()))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: plain(value)))
    if not positive.size:
        axes.set_ylim(-0.05, 1.0)
    if is_aliased.any():
        bottom, label = axes.get_xaxis_transform(), "the grid decides"
        places = np.full(int(is_aliased.sum()), 0.03)
        axes.plot(steps[is_aliased], places, "x", color=colours.ink, markersize=5, transform=bottom, label=label)
    axes.set(xlabel="step", ylabel="SMAD (loss)")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize="small")
    return figure


def _column(entries: Sequence[tuple[int, Mapping[str, float]]], key: str) -> np.ndarray:
    return np.array([values.get(key, np.nan) for _, values in entries], dtype=np.float64)
