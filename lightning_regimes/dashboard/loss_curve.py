"""The training loss over the run, beside the losses that the regime is judged by."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_regimes.dashboard.log_axis import label_decades
from lightning_regimes.dashboard.palette import ACCENT, MUTED, REGIMES, SURFACE
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView, threshold

_HISTORY = ("regime/loss_history_steps", "regime/loss_history")


def loss_curve(run: RunView) -> Panel | None:
    """Draw the loss history with the reference loss and the threshold of fitting."""
    record = run.arrays(*_HISTORY)
    if record is None or not record.arrays[_HISTORY[0]].size:
        return None
    steps, losses = (np.asarray(record.arrays[key], dtype=np.float64) for key in _HISTORY)
    shown = np.isfinite(losses) & (losses > 0)
    if not shown.any():
        return None
    first, last = losses[shown][[0, -1]]
    figure = Figure(figsize=(4.3, 2.8))
    axes = figure.add_subplot()
    axes.plot(
        steps, np.where(shown, losses, np.nan), color=ACCENT.marker, zorder=3, marker="o" if steps.size == 1 else None
    )
    axes.set(yscale="log", xlabel="step", ylabel="training loss")
    label_decades(axes.yaxis)
    axes.margins(x=0.01)
    reference = record.scalars.get("regime/reference_loss")
    fit = threshold(record, "fit")
    if reference:
        _level(axes, reference, "trivial predictor" if _is_trivial(record.context) else "reference loss", MUTED.marker)
        if fit:
            colour = REGIMES["well-trained"].marker
            _level(axes, fit * reference, "fits its data below", colour)
            low, high = axes.get_ylim()
            low = min(low, fit * reference / 3)
            axes.axhspan(low, fit * reference, color=colour, alpha=0.08, linewidth=0, zorder=0)
            axes.set_ylim(low, max(high, reference * 2))
    return Panel(
        title="Training loss",
        reading=(
            "A loss that reaches the shaded band fits its data; one that stays near the upper line has learned no "
            "more than the trivial answer. A curve that still falls at the right end has not said its last word."
        ),
        pictures=(
            (
                figure,
                f"Training loss over {steps[-1]:.0f} steps, logarithmic axis, from {first:.3g} to {last:.3g}.",
            ),
        ),
    )


def _is_trivial(context: object) -> bool:
    return isinstance(context, dict) and context.get("reference_source") == "trivial_loss"


def _level(axes: Axes, value: float, text: str, colour: str) -> None:
    axes.axhline(value, color=colour, linewidth=0.9, linestyle=(0, (4, 3)), zorder=2)
    axes.annotate(
        text,
        (0.99, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color=colour,
        # A loss that never falls runs through the words.
        bbox={"facecolor": SURFACE.marker, "alpha": 0.75, "linewidth": 0, "pad": 0.8},
        zorder=4,
    )
