"""How near the momentum's rows are to right angles over the run."""

import numpy as np
from matplotlib.figure import Figure

from lightning_regimes.dashboard.log_axis import label_decades
from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.palette import ACCENT, CONTRAST, INK
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView


def diagonal_dominance(run: RunView) -> Panel | None:
    """Draw the ratios over the steps, and the cosine between the row-normalized and the polar update."""
    steps, values = run.series("dominance/r_avg")
    if not np.isfinite(values).any():
        return None
    record = next(record for record in reversed(run.records) if "dominance/r_avg" in record.scalars)
    carrier = record.context.get("carrier", "momentum")
    carrier = "momentum or gradient" if carrier == "mixed" else carrier
    ratios = Figure(figsize=(4.3, 2.8))
    axes = ratios.add_subplot()
    drawn = []
    for key, label, alpha in (("r_max", "largest", 0.5), ("r_avg", "mean", 1.0), ("r_min", "smallest", 0.5)):
        own_steps, own = run.series(f"dominance/{key}")
        drawn.append(own[np.isfinite(own) & (own > 0)])
        axes.plot(own_steps, own, color=ACCENT.marker, alpha=alpha, marker="o", label=label)
    axes.axhline(1.0, color=INK.marker, linestyle=(0, (4, 3)), linewidth=1.0)
    axes.set(xlabel="step", ylabel="diagonal / beside it")
    sizes = np.concatenate(drawn)
    if sizes.max() > 30 * sizes.min():
        axes.set_yscale("log")
        label_decades(axes.yaxis)
    ratios.legend(loc="outside upper left", ncols=3)
    pictures = [
        (
            ratios,
            f"Ratio of the diagonal of the Gram matrix of the {carrier} to the mean beside it at {steps.size} steps; "
            f"its mean over rows goes from {short(values[0])} to {short(values[-1])}.",
        )
    ]
    cosine_steps, cosines = run.series("dominance/cosine")
    if np.isfinite(cosines).any():
        figure = Figure(figsize=(4.3, 2.8))
        axes = figure.add_subplot()
        axes.plot(cosine_steps, cosines, color=CONTRAST.marker, marker="o")
        axes.set(xlabel="step", ylabel="cosine", ylim=(-0.02, 1.02))
        text = (
            f"Cosine between the two updates at {cosine_steps.size} steps, from {cosines[0]:.2f} to {cosines[-1]:.2f}."
        )
        pictures.append((figure, text))
    return Panel(
        title="Rows at right angles",
        reading=(
            f"Where the diagonal of V·Vᵀ, for the {carrier} V of each weight, stands far above what is beside it, rows "
            "hardly overlap, and dividing each row by its norm (RMNP) does what the polar factor (Muon) does. The "
            "cosine says how far the two updates really agree; in wide layers it can be low while the ratio is high."
        ),
        pictures=tuple(pictures),
    )
