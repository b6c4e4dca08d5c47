"""Eigenvalues and trace of the Hessian over the run."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_regimes.dashboard.log_axis import label_decades
from lightning_regimes.dashboard.palette import ACCENT, CONTRAST, INK
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView


def spectrum_history(run: RunView) -> Panel | None:
    """Draw the leading eigenvalues, the smallest one and the optimizer's stability threshold."""
    keys = run.eigenvalue_keys()
    if not keys:
        return None
    figure = Figure(figsize=(4.3, 2.8))
    axes = figure.add_subplot()
    everything = []
    for index, key in enumerate(keys):
        steps, values = run.series(key)
        everything.append(values)
        # The paler, the further down the spectrum.
        alpha = 1.0 if index == 0 else 0.55 - 0.4 * index / len(keys)
        label = "λ₁" if index == 0 else f"λ₂ … λ{_subscript(len(keys))}" if index == 1 and len(keys) > 2 else None
        label = "λ₂" if index == 1 and len(keys) == 2 else label
        axes.plot(steps, values, color=ACCENT.marker, alpha=alpha, label=label, marker="o", zorder=3 - index / 100)
    readings = ["λ₁ is the steepest curvature of the loss, the others follow it."]
    if "hessian/lambda_min" in run.last:
        readings.append("A clearly negative λ_min says that the weights sit on a saddle, not in a minimum.")
        steps, values = run.series("hessian/lambda_min")
        everything.append(values)
        axes.plot(steps, values, color=CONTRAST.marker, label="λ_min", marker="o", zorder=3)
    if "hessian/stability_threshold" in run.last:
        readings.append("Where λ₁ meets the dashed threshold, the step size is at its limit of stability.")
        steps, values = run.series("hessian/stability_threshold")
        everything.append(values)
        (line,) = axes.plot(steps, values, label="stability threshold", color=INK.marker)
        line.set(linestyle=(0, (4, 3)), linewidth=1.0, marker="_" if steps.size == 1 else "", markersize=14)
    _scale(axes, np.concatenate(everything))
    axes.set(xlabel="step", ylabel="eigenvalue")
    figure.legend(loc="outside upper left", ncols=4)
    steps, values = run.series(keys[0])
    return Panel(
        title="Curvature of the loss",
        reading=" ".join(readings),
        pictures=(
            (
                figure,
                f"The {len(keys)} largest eigenvalues of the Hessian at {steps.size} steps; the largest goes from "
                f"{values[0]:.3g} to {values[-1]:.3g}.",
            ),
        ),
    )


def edge_of_stability(run: RunView) -> Panel | None:
    """Draw how close the sharpness is to where the optimizer's steps become unstable."""
    steps, values = run.series("hessian/sharpness_ratio")
    if not steps.size:
        return None
    figure = Figure(figsize=(4.3, 2.4))
    axes = figure.add_subplot()
    axes.plot(steps, values, color=ACCENT.marker, marker="o", zorder=3)
    axes.axhline(1.0, color=INK.marker, linestyle=(0, (4, 3)), linewidth=1.0)
    _scale(axes, np.append(values, 1.0))
    axes.set(xlabel="step", ylabel="sharpness / threshold")
    adapts = "hessian/preconditioned_lambda_1" in run.last
    sharpness = "the largest eigenvalue of the Hessian" + (" as the optimizer preconditions it" if adapts else "")
    return Panel(
        title="Edge of stability",
        reading=(
            f"The sharpness is {sharpness}. At the dashed line, steps along it no longer shrink: a run that hovers "
            "there takes steps as large as it can bear, one far below could take larger ones."
        ),
        pictures=(
            (
                figure,
                f"Sharpness over the stability threshold at {steps.size} steps, from {values[0]:.3g} to "
                f"{values[-1]:.3g}.",
            ),
        ),
    )


def row_blocks(run: RunView) -> Panel | None:
    """Draw the share of the row blocks in the Hessian of the weight matrices."""
    steps, values = run.series("hessian/row_block_share")
    if not steps.size:
        return None
    figure = Figure(figsize=(4.3, 2.4))
    axes = figure.add_subplot()
    axes.plot(steps, values, color=ACCENT.marker, marker="o", zorder=3)
    _draw_error_bars(axes, run, "hessian/row_block_share")
    axes.set(xlabel="step", ylabel="share within rows", ylim=(0, 1.02))
    return Panel(
        title="Row blocks of the Hessian",
        reading=(
            "Near 1, the rows of the weight matrices hardly interact, and an optimizer that scales them one by one, as "
            "RMNP does, has the curvature right. The bars are two standard errors."
        ),
        pictures=(
            (
                figure,
                f"Share of the squared Hessian within rows at {steps.size} steps, from {values[0]:.2f} to "
                f"{values[-1]:.2f}.",
            ),
        ),
    )


def trace_history(run: RunView) -> Panel | None:
    """Draw the trace with a band of two standard errors."""
    steps, values = run.series("hessian/trace")
    if not steps.size:
        return None
    figure = Figure(figsize=(4.3, 2.4))
    axes = figure.add_subplot()
    axes.plot(steps, values, color=ACCENT.marker, marker="o", zorder=3)
    _draw_error_bars(axes, run, "hessian/trace")
    _scale(axes, values)
    axes.set(xlabel="step", ylabel="trace")
    return Panel(
        title="Trace of the Hessian",
        reading=(
            "The sum of all curvatures: lower is flatter ground, though a loss on its way down often gets steeper. The "
            "bars are two standard errors of the estimate; changes within them mean nothing."
        ),
        pictures=(
            (
                figure,
                f"Trace of the Hessian at {steps.size} steps, from {values[0]:.3g} to {values[-1]:.3g}.",
            ),
        ),
    )


def _draw_error_bars(axes: Axes, run: RunView, key: str) -> None:
    """Draw bars of two standard errors at the values of a key."""
    steps, values = run.series(key)
    error_steps, errors = run.series(f"{key}_standard_error")
    if error_steps.size == steps.size:
        bars = 2 * np.nan_to_num(errors)
        axes.errorbar(steps, values, yerr=bars, color=ACCENT.marker, alpha=0.45, linewidth=0, elinewidth=1.2, capsize=2)


def _scale(axes: Axes, values: np.ndarray) -> None:
    """Logarithmic where the values span decades, with a linear part around zero where some are negative."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    if not sizes.size or sizes.max() < 30 * sizes.min():
        return
    if (values[np.isfinite(values)] > 0).all():
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=10.0 ** np.floor(np.log10(sizes.max() / 1e3)))
    label_decades(axes.yaxis)


def _subscript(number: int) -> str:
    return "".join("₀₁₂₃₄₅₆₇₈₉"[int(digit)] for digit in str(number))
