"""The tails of the weights' spectra over the run, and layer by layer."""

import numpy as np
from matplotlib.figure import Figure

from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.palette import ACCENT, CONTRAST, MUTED
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView

_MOST_LAYERS = 40


def heavy_tails(run: RunView) -> Panel | None:
    """Draw the exponents over the steps, and those of the layers at the last measurement."""
    steps, values = run.series("heavy_tail/alpha_mean")
    if not np.isfinite(values).any():
        return None
    pictures = [_history(run, steps, values)]
    layers = _layers(run)
    if layers is not None:
        pictures.append(layers)
    return Panel(
        title="Tails of the weights' spectra",
        reading=(
            "α is the exponent of the power law that the larger half of the eigenvalues of W·Wᵀ follows best: lower is "
            "a heavier tail. It falls from the values of random weights as training builds up correlations; layers "
            "that stay high have learnt little of that kind. Exponents of small matrices scatter widely."
        ),
        pictures=tuple(pictures),
    )


def _history(run: RunView, steps: np.ndarray, values: np.ndarray) -> tuple[Figure, str]:
    figure = Figure(figsize=(4.3, 2.8))
    axes = figure.add_subplot()
    axes.plot(steps, values, color=ACCENT.marker, marker="o", label="weights, mean", zorder=3)
    low_steps, low = run.series("heavy_tail/alpha_min")
    high_steps, high = run.series("heavy_tail/alpha_max")
    if low_steps.size == steps.size == high_steps.size:
        axes.fill_between(steps, low, high, color=ACCENT.marker, alpha=0.15, linewidth=0, label="all layers")
    momentum_steps, momentum = run.series("heavy_tail/momentum_alpha_mean")
    if momentum_steps.size:
        axes.plot(momentum_steps, momentum, color=CONTRAST.marker, marker="o", label="momentum, mean", zorder=3)
    axes.set(xlabel="step", ylabel="exponent α")
    figure.legend(loc="outside upper left", ncols=3)
    text = f"Mean exponent of the weights at {steps.size} steps, from {short(values[0])} to {short(values[-1])}."
    if momentum_steps.size:
        text += f" That of the momentum goes from {short(momentum[0])} to {short(momentum[-1])}."
    return figure, text


def _layers(run: RunView) -> tuple[Figure, str] | None:
    record = run.arrays("heavy_tail/alphas")
    if record is None:
        return None
    alphas = record.arrays["heavy_tail/alphas"]
    names = list(record.context.get("matrices", ()))
    if len(names) != len(alphas):
        names = [str(index) for index in range(len(alphas))]
    finite = np.flatnonzero(np.isfinite(alphas))
    if not finite.size:
        return None
    shown = slice(_MOST_LAYERS)
    positions = np.arange(len(alphas[shown]))
    figure = Figure(figsize=(4.3, max(2.0, 0.8 + 0.22 * len(positions))))
    axes = figure.add_subplot()
    axes.hlines(positions, 0, np.nan_to_num(alphas[shown], posinf=0), color=MUTED.marker, linewidth=0.9)
    axes.plot(alphas[shown], positions, "o", color=ACCENT.marker, label="weights", zorder=3)
    momentum = record.arrays.get("heavy_tail/momentum_alphas")
    if momentum is not None and len(momentum) == len(alphas):
        axes.plot(momentum[shown], positions, "o", color=CONTRAST.marker, label="momentum", zorder=3)
    axes.set_yticks(positions, labels=names[shown])
    axes.invert_yaxis()
    axes.set(xlabel="exponent α", xlim=(0, None))
    figure.legend(loc="outside upper left", ncols=2)
    heaviest, lightest = finite[alphas[finite].argmin()], finite[alphas[finite].argmax()]
    return figure, (
        f"Exponents of {len(alphas)} weight matrices at step {record.step}: from {short(alphas[heaviest])} "
        f"({names[heaviest]}) to {short(alphas[lightest])} ({names[lightest]})."
    )
