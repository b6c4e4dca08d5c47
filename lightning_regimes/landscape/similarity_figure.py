"""Figures of the similarity of layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_regimes.landscape.cka_result import CKAResult


def draw_similarity(result: CKAResult) -> Figure:
    """Draw a heat map of all pairs of layers, or a bar for each matching pair."""
    from matplotlib.figure import Figure

    rows, columns = len(result.layers), len(result.layers_b)
    if result.pairs == "matching":
        figure = Figure(figsize=(6.4, 1.2 + 0.3 * rows), layout="constrained")
        axes = figure.subplots()
        axes.barh(range(rows), result.values, color="#4c72b0")
        axes.set_xlim(min(0.0, *result.values), 1)
        axes.set_xlabel("CKA")
        axes.set_yticks(range(rows), labels=result.layers)
        axes.invert_yaxis()
        return figure
    figure = Figure(figsize=(2.4 + 0.35 * columns, 1.6 + 0.35 * rows), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(result.values, vmin=0, vmax=1, cmap="viridis")
    axes.set_xticks(range(columns), labels=result.layers_b, rotation=90)
    axes.set_yticks(range(rows), labels=result.layers)
    axes.set_xlabel("layer of the second network")
    axes.set_ylabel("layer of the first network")
    figure.colorbar(image, ax=axes, label="CKA")
    return figure
