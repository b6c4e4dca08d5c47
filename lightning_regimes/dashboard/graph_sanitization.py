"""Which edges were taken out of a graph before training."""

import numpy as np
from matplotlib.figure import Figure

from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.palette import ACCENT, CONTRAST
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView


def graph_sanitization(run: RunView) -> Panel | None:
    """Draw how suspicious kept and pruned edges are, and the accuracy over the share pruned where it was chosen."""
    record = next((record for record in reversed(run.records) if "kces/bins" in record.arrays), None)
    if record is None:
        return None
    bins, kept = record.arrays["kces/bins"], record.arrays["kces/kept_counts"]
    pruned = record.arrays["kces/pruned_counts"]
    figure = Figure(figsize=(4.3, 2.8))
    axes = figure.add_subplot()
    axes.stairs(kept + pruned, bins, baseline=kept, fill=True, color=CONTRAST.marker, label="pruned")
    axes.stairs(kept, bins, fill=True, color=ACCENT.marker, label="kept")
    axes.set(xlabel="suspicion", ylabel="edges")
    figure.legend(loc="outside upper left", ncols=2)
    scalars = record.scalars
    numbers = f"{int(scalars['kces/pruned'])} of {int(scalars['kces/edges'])} edges were pruned"
    pictures = [(figure, f"Suspicion of the edges; {numbers}.")]
    if "kces/curve_ratios" in record.arrays:
        ratios, accuracies = record.arrays["kces/curve_ratios"], record.arrays["kces/curve_accuracies"]
        curve = Figure(figsize=(4.3, 2.8))
        axes = curve.add_subplot()
        axes.plot(ratios, accuracies, color=ACCENT.marker, marker="o")
        axes.set(xlabel="share of edges pruned", ylabel="validation accuracy")
        best = int(np.argmax(accuracies))
        text = f"Validation accuracy of the kernel, best at {ratios[best]:.2f} with {accuracies[best]:.3f}."
        pictures.append((curve, text))
    found = ""
    if "kces/detection_auc" in scalars:
        found = (
            f" An edge that the attack added was more suspicious than a clean one with probability "
            f"{scalars['kces/detection_auc']:.2f}."
        )
    before, after = short(scalars["kces/gkc_before"]), short(scalars["kces/gkc_after"])
    return Panel(
        title="Edges taken out of the graph",
        reading=(
            f"{numbers}, those that make the labels hardest to learn by the kernel of the graph, whose complexity went "
            f"from {before} to {after}.{found}"
        ),
        pictures=tuple(pictures),
    )
