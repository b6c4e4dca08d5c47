"""Figures of the loss along a path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lightning_regimes.landscape.path_losses import Floats, mean_of_ends

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_path(positions: Floats, values: Floats | Mapping[str, Floats], *, label: str) -> Figure:
    """Draw values along a path, or along several by name, and the mean of the ends, above which a barrier rises."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    paths = values if isinstance(values, Mapping) else {"": values}
    for name, along in paths.items():
        axes.plot(positions, along, marker=".", linewidth=1, label=name or None)
    axes.axhline(
        mean_of_ends(next(iter(paths.values()))), color="k", linestyle=":", linewidth=1, label="mean of the ends"
    )
    axes.set_xlabel(label)
    axes.set_ylabel("loss or metric")
    axes.legend(fontsize="small")
    return figure
