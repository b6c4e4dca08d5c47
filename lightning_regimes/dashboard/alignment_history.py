"""Alignment with the dominant eigenvectors over the run, and the step sizes that it is judged by."""

import numpy as np
from matplotlib.figure import Figure

from lightning_regimes.dashboard.log_axis import label_decades
from lightning_regimes.dashboard.palette import ACCENT, CONTRAST, INK, MUTED
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView


def alignment_history(run: RunView) -> Panel | None:
    """Draw the share of gradient and update in the dominant subspace."""
    steps, values = run.series("alignment/theta")
    if not steps.size:
        return None
    figure = Figure(figsize=(4.3, 2.8))
    axes = figure.add_subplot()
    axes.plot(steps, values, color=ACCENT.marker, marker="o", label="gradient", zorder=3)
    for key, label, colour, alpha in (
        ("alignment/theta_batch", "batches", ACCENT.marker, 0.45),
        ("alignment/theta_update", "update", CONTRAST.marker, 1.0),
    ):
        others, shares = run.series(key)
        if others.size:
            axes.plot(others, shares, color=colour, alpha=alpha, marker="o", label=label)
    theory_steps, theory = run.series("alignment/theory_theta")
    if theory_steps.size:
        axes.plot(
            theory_steps, theory, color=INK.marker, linestyle=(0, (4, 3)), linewidth=1.0, label="steady, by theory"
        )
    chance = run.number("alignment/chance")
    if chance is not None:
        axes.axhline(chance, color=MUTED.marker, linewidth=0.9, linestyle=(0, (4, 3)), label="chance")
    axes.set(xlabel="step", ylabel="share in the dominant subspace", ylim=(-0.02, 1.02))
    figure.legend(loc="outside upper left", ncols=3)
    return Panel(
        title="Alignment with the dominant eigenvectors",
        reading=(
            "Near 1, the gradient lies almost wholly in the few steepest directions. That is no sign of progress: "
            "there, steps often undo each other, and the loss falls by what goes into the rest."
        ),
        pictures=(
            (
                figure,
                f"Share of the gradient in the dominant subspace at {steps.size} steps, from {values[0]:.2f} to "
                f"{values[-1]:.2f}.",
            ),
        ),
    )


def step_size_bands(run: RunView) -> Panel | None:
    """Draw the step sizes between which dominant steps raise the loss and bulk steps lower it."""
    steps, dominant = run.series("alignment/critical_loss_step_size_dominant")
    other_steps, bulk = run.series("alignment/critical_loss_step_size_bulk")
    if not steps.size or not np.array_equal(steps, other_steps) or not np.isfinite(dominant).any():
        return None
    figure = Figure(figsize=(4.3, 2.8))
    axes = figure.add_subplot()
    dominant, bulk = (np.where(np.isfinite(values), values, np.nan) for values in (dominant, bulk))
    axes.plot(steps, bulk, color=CONTRAST.marker, marker="o", label="bulk raises above")
    axes.plot(steps, dominant, color=ACCENT.marker, marker="o", label="dominant raises above")
    axes.fill_between(steps, dominant, bulk, color=ACCENT.marker, alpha=0.1, linewidth=0)
    rate_steps, rates = run.series("alignment/step_size")
    if rate_steps.size:
        axes.plot(rate_steps, rates, color=INK.marker, linestyle=(0, (4, 3)), linewidth=1.0, label="step size")
    axes.set(xlabel="step", ylabel="step size", yscale="log")
    label_decades(axes.yaxis)
    figure.legend(loc="outside upper left", ncols=2)
    return Panel(
        title="Step sizes that lower the loss",
        reading=(
            "In the shaded band, a step within the dominant subspace raises the expected loss while a step in the rest "
            "lowers it. Below the band both help, above it neither does."
        ),
        pictures=(
            (
                figure,
                f"Largest step sizes that lower the expected loss at {steps.size} steps: {dominant[-1]:.3g} within the "
                f"dominant subspace and {bulk[-1]:.3g} in the rest at the last.",
            ),
        ),
    )
