"""A spectrum that parts into dominant and bulk eigenvalues, beside what theory says of it."""

import numpy as np
from matplotlib.figure import Figure

from lightning_regimes.dashboard.palette import ACCENT, CONTRAST, INK
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView


def bifurcation(run: RunView) -> Panel | None:
    """Draw the ratio of dominant to bulk eigenvalues, and the last spectrum."""
    steps, ratios = run.series("hessian/bifurcation_ratio")
    if not steps.size:
        return None
    figure = Figure(figsize=(4.3, 2.8))
    axes = figure.add_subplot()
    axes.plot(steps, ratios, color=ACCENT.marker, marker="o", linestyle="", label="measured", zorder=3)
    theory_steps, theory = run.series("hessian/theory_bifurcation_ratio")
    if theory_steps.size:
        axes.plot(theory_steps, theory, color=INK.marker, linewidth=1.0, linestyle=(0, (4, 3)), label="theory")
    axes.set(xlabel="step", ylabel="dominant / bulk")
    figure.legend(loc="outside upper left", ncols=2)
    pictures = [(figure, f"Mean dominant over mean bulk eigenvalue, {ratios[-1]:.3f} at step {steps[-1]:.0f}.")]
    if (last := _last_spectrum(run)) is not None:
        pictures.append(last)
    return Panel(
        title="Bifurcation of the spectrum",
        reading=(
            "Depth alone parts the eigenvalues: at the minimum of a deep linear network, the dominant ones are as many "
            "times larger than the bulk as there are layers. Weights that still shrink keep the ratio below that."
        ),
        pictures=tuple(pictures),
    )


def _last_spectrum(run: RunView) -> tuple[Figure, str] | None:
    record = run.arrays("hessian/eigenvalues", "hessian/theory_eigenvalues")
    if record is None:
        return None
    values, theory = (np.asarray(record.arrays[f"hessian/{name}"]) for name in ("eigenvalues", "theory_eigenvalues"))
    figure = Figure(figsize=(4.3, 2.8))
    axes = figure.add_subplot()
    axes.plot(np.arange(1, values.size + 1), values, ".", color=CONTRAST.marker, label="measured")
    axes.plot(np.arange(1, theory.size + 1), theory, color=INK.marker, linewidth=0.9, label="theory", zorder=3)
    axes.set(xlabel="index", ylabel="eigenvalue")
    figure.legend(loc="outside upper left", ncols=2)
    gap = float(np.abs(values - theory).max())
    text = (
        f"The {values.size} largest eigenvalues at step {record.step}, which differ from theory by {gap:.1g} at most."
    )
    return figure, text
