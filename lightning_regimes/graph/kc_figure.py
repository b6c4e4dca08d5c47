"""Figure of the scores of a graph's edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_regimes.graph.figure_colours import ACCENT, CONTRAST

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_regimes.graph.kc_result import KCResult


def draw_scores(result: KCResult, *, bins: int = 50, size: tuple[float, float] = (6.0, 3.6)) -> Figure:
    """Draw how many edges have a score of which size, those that raise the complexity beside those that lower it."""
    from matplotlib.figure import Figure

    scores = result.scores.cpu().numpy()
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    nonzero = np.abs(scores[scores != 0])
    if nonzero.size:
        low = max(nonzero.min(), nonzero.max() * 1e-8)
        spacing = np.geomspace(low, nonzero.max() * (1 + 1e-9), bins + 1)
        for sign, name, colour in ((1, "raises the complexity", CONTRAST), (-1, "lowers it", ACCENT)):
            axes.hist(
                sign * scores[sign * scores > 0], bins=spacing.tolist(), histtype="step", color=colour, label=name
            )
        axes.set_xscale("log")
        figure.legend(loc="outside upper left", ncols=2, fontsize="small")
    zeros = int((scores == 0).sum())
    settings = result.settings
    axes.set_title(
        f"GKC {result.gkc:.4g}, labels {settings.labels}, {zeros} of {len(scores)} edges at 0", fontsize="small"
    )
    axes.set_xlabel("size of the score")
    axes.set_ylabel("edges")
    return figure
