"""Figure of how well doubted edges are those that an attack added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.graph.figure_colours import ACCENT, CONTRAST, MUTED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_regimes.graph.detection import Detection


def draw_detection(detection: Detection, *, bins: int = 50, size: tuple[float, float] = (9.0, 3.6)) -> Figure:
    """Draw histograms of the suspicion of clean and added edges, and the operating curve with what was pruned on it."""
    from matplotlib.figure import Figure

    from lightning_regimes.graph.detection import operating_curve

    figure = Figure(figsize=size, layout="constrained")
    left, right = figure.subplots(1, 2)
    values, is_added = detection.suspicion.cpu(), detection.is_added.cpu()
    groups = [values[~is_added].numpy(), values[is_added].numpy()]
    left.hist(groups, bins=bins, histtype="step", color=[ACCENT, CONTRAST], label=["of the clean graph", "added"])
    left.set_xlabel("suspicion")
    left.set_ylabel("edges")
    left.legend(fontsize="small")

    clean, added = operating_curve(values, is_added)
    right.plot(clean.numpy(), added.numpy(), color=CONTRAST, label=f"area under the curve {detection.auc:.3f}")
    right.plot([0, 1], [0, 1], color=MUTED, linestyle="--", label="chance")
    if detection.precision == detection.precision:
        hits = detection.recall * detection.num_adversarial
        false = hits / detection.precision - hits if hits else 0.0
        right.plot([false / max(1, len(groups[0]))], [detection.recall], "o", color=ACCENT, label="pruned")
    right.set_xlabel("share of the clean edges that go")
    right.set_ylabel("share of the added edges that go")
    right.legend(loc="lower right", fontsize="small")
    return figure
