"""Alignment of the gradient in a training whose updates are projected, and when that began."""

from matplotlib.figure import Figure

from lightning_regimes.dashboard.palette import ACCENT, CONTRAST, MUTED
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView


def projection_history(run: RunView) -> Panel | None:
    """Draw χ over the steps, with the step at which projection began."""
    steps, values = run.series("projection/chi")
    if not steps.size:
        return None
    figure = Figure(figsize=(4.3, 2.8))
    axes = figure.add_subplot()
    axes.plot(steps, values, color=ACCENT.marker, label="χ")
    average_steps, averages = run.series("projection/chi_average")
    if average_steps.size:
        axes.plot(average_steps, averages, color=CONTRAST.marker, label="average")
    active_steps, active = run.series("projection/active")
    projected = active_steps[active > 0]
    began = "updates were never projected"
    if projected.size:
        began = f"updates were projected from step {projected[0]:.0f} on"
        axes.axvline(projected[0], color=MUTED.marker, linewidth=0.9, linestyle=(0, (4, 3)), label="switch")
    axes.set(xlabel="step", ylabel="χ", ylim=(-0.02, 1.02))
    figure.legend(loc="outside upper left", ncols=3)
    return Panel(
        title="Projected updates",
        reading=(
            "χ is the norm of the gradient's dominant part over that of the gradient. Near 1, a projection on the "
            "dominant eigenvectors takes little away from the gradient, and yet stops the loss from falling."
        ),
        pictures=((figure, f"χ at {steps.size} steps, from {values[0]:.2f} to {values[-1]:.2f}; {began}."),),
    )
