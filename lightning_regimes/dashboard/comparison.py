"""Several runs in one picture: their losses, errors and curvature over the steps."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.figure import Figure

from lightning_regimes.dashboard.log_axis import label_decades
from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.palette import INK, SERIES, regime_colour
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView, short_names, threshold

_ERROR, _ESTIMATE = "regime/test_error", "regime/estimated_error"
_HISTORY = ("regime/loss_history_steps", "regime/loss_history")
# A line of a loss is not told from one with more points.
_MOST_POINTS = 200

Line = tuple[np.ndarray, np.ndarray]


def loss_comparison(runs: Sequence[RunView]) -> Panel | None:
    """Draw the training losses, each over its reference loss."""
    verdicts = [run.verdict for run in runs]
    fits = {fit for verdict in verdicts if verdict and (fit := threshold(verdict, "fit"))}
    return _overlay(
        runs,
        _normalized_loss,
        title="Training losses",
        label="training loss / reference loss",
        reading="At 1 a run is no better than the trivial predictor; below the dashed line it fits its data.",
        level=fits.pop() if len(fits) == 1 else None,
    )


def error_comparison(runs: Sequence[RunView]) -> Panel | None:
    """Draw the errors, and in place of those that are not known their estimates."""
    estimated = [str(index + 1) for index, run in enumerate(runs) if _error_key(run) == _ESTIMATE]
    reading = "Where the loss falls and the error does not, the data is what limits the run."
    if estimated:
        reading += f" Without a reference, errors are estimates: {', '.join(estimated)}."
    return _overlay(runs, lambda run: run.series(_error_key(run)), title="Errors", label="error", reading=reading)


def sharpness_comparison(runs: Sequence[RunView]) -> Panel | None:
    """Draw the largest eigenvalues of the Hessian."""
    return _overlay(
        runs,
        lambda run: run.series("hessian/lambda_1"),
        title="Sharpness",
        label="λ₁",
        reading=(
            "The steepest curvature of each loss. Losses of other scales have other curvatures: only runs of the same "
            "loss compare."
        ),
    )


def stability_comparison(runs: Sequence[RunView]) -> Panel | None:
    """Draw the sharpness over the stability threshold of the optimizer."""
    return _overlay(
        runs,
        lambda run: run.series("hessian/sharpness_ratio"),
        title="Edge of stability",
        label="sharpness / threshold",
        reading="At the dashed line the steps of a run are as large as its loss can bear.",
        level=1.0,
    )


COMPARISONS = (loss_comparison, error_comparison, sharpness_comparison, stability_comparison)


def _error_key(run: RunView) -> str:
    return next((key for key in (_ERROR, _ESTIMATE) if run.series(key)[0].size), _ERROR)


def _normalized_loss(run: RunView) -> Line:
    record = run.arrays(*_HISTORY)
    reference = record.scalars.get("regime/reference_loss") if record else None
    if record is None or not reference:
        return np.empty(0), np.empty(0)
    steps, losses = (np.asarray(record.arrays[key], dtype=np.float64) for key in _HISTORY)
    shown = np.unique(np.linspace(0, steps.size - 1, min(steps.size, _MOST_POINTS)).astype(int))
    return steps[shown], losses[shown] / reference


def _overlay(
    runs: Sequence[RunView],
    line_of: Callable[[RunView], Line],
    *,
    title: str,
    label: str,
    reading: str,
    level: float | None = None,
) -> Panel | None:
    """Draw a line a run, on a logarithmic axis where they span decades; nothing where fewer than two runs have one."""
    lines = []
    names = short_names(runs)
    for index, run in enumerate(runs):
        steps, values = line_of(run)
        shown = np.isfinite(values) & (values > 0)
        if shown.any():
            lines.append((index, run, steps[shown], values[shown]))
    if len(lines) < 2:
        return None
    few = len(runs) <= len(SERIES)
    figure = Figure(figsize=(4.3, 3.1))
    axes = figure.add_subplot()
    for index, run, steps, values in lines:
        colour = SERIES[index] if few else regime_colour(run.label)
        marker = "o" if steps.size == 1 else None
        axes.plot(
            steps, values, color=colour.marker, label=f"{index + 1} · {names[index]}", linewidth=1.3, marker=marker
        )
    if level is not None:
        axes.axhline(level, color=INK.marker, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set(xlabel="step", ylabel=label)
    heights = np.concatenate([values for *_, values in lines] + ([] if level is None else [np.array([level])]))
    # Within a decade and a half, a logarithmic axis would have a single label.
    if heights.max() > 30 * heights.min():
        axes.set_yscale("log")
        label_decades(axes.yaxis)
    if few:
        figure.legend(loc="outside upper left", ncols=2)
    ends = "; ".join(f"{run.name} ends at {short(float(values[-1]))}" for _, run, _, values in lines)
    colours = "" if few else " Lines have the colour of the regime in which the run ended."
    return Panel(title=title, reading=reading + colours, pictures=((figure, f"{label} over steps: {ends}."),))
