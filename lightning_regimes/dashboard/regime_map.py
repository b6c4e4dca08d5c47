"""The plane of training loss and generalization, with its regimes and the way that runs took through it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_regimes.dashboard.log_axis import label_decades
from lightning_regimes.dashboard.palette import GRID, INK, MUTED, REGIMES, SURFACE, regime_colour
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import (
    RunView,
    generalization,
    generalization_threshold,
    label_of,
    threshold,
)
from lightning_regimes.recording import Record


def regime_map(runs: Sequence[RunView]) -> Panel | None:
    """Draw where the runs stand; nothing where no run has both coordinates and the thresholds."""
    paths = [(run, path) for run in runs if (path := _path(run))]
    if not paths:
        return None
    last = paths[0][1][-1]
    fit = threshold(last, "fit")
    found = generalization(last)
    assert fit is not None
    assert found is not None
    name = found[1]
    # One axis holds one kind of evidence: that of the first run's last record.
    left_out = [run.name for run, path in paths if all(_evidence(each) != name for each in path)]
    paths = [(run, same) for run, path in paths if (same := [each for each in path if _evidence(each) == name])]
    limit = generalization_threshold(last, name) or fit
    figure = Figure(figsize=(4.3, 3.3))
    axes = figure.add_subplot()
    _quadrants(axes, fit, limit, inconsistent=name.endswith("error"))
    for run, path in paths:
        x = np.array([record.scalars["regime/normalized_loss"] for record in path])
        y = np.array([value[0] for record in path if (value := generalization(record))])
        axes.plot(x, y, color=MUTED.marker, linewidth=1.0, zorder=2)
        colours = [regime_colour(label_of(record)).marker for record in path]
        axes.scatter(x[:-1], y[:-1], s=20, color=colours[:-1], edgecolor=SURFACE.marker, linewidth=0.5, zorder=3)
        axes.scatter(x[-1], y[-1], s=80, color=colours[-1], edgecolor=SURFACE.marker, linewidth=1.2, zorder=4)
        if len(runs) > 1:
            axes.annotate(
                str(runs.index(run) + 1),
                (x[-1], y[-1]),
                xytext=(0, -0.3),
                textcoords="offset points",
                fontsize=6.5,
                weight="bold",
                color=SURFACE.marker,
                ha="center",
                va="center",
                zorder=4,
            )
    axes.set(xscale="log", yscale="log", xlabel="training loss / reference loss", ylabel=name)
    label_decades(axes.xaxis)
    label_decades(axes.yaxis)
    _margins(axes, paths, fit, limit)
    where = "; ".join(f"{run.name} is {run.label or 'not labelled'}" for run, _ in paths)
    return Panel(
        title="Where the run stands" if len(runs) == 1 else "Where the runs stand",
        reading=(
            "Left of the vertical line a run fits its data, below the horizontal line it generalizes. The small dots "
            "are the way it took, the large dot is where it ended; the further from both lines, the surer the label."
            + (" Numbers are those of the table." if len(runs) > 1 else "")
            + (f" Judged by another number, and not shown: {', '.join(left_out)}." if left_out else "")
        ),
        pictures=((figure, f"Map of training loss against {name}, with the four regimes: {where}."),),
    )


def _path(run: RunView) -> list[Record]:
    return [
        record
        for record in run.records
        if (value := generalization(record))
        and value[0] > 0
        and record.scalars.get("regime/normalized_loss", 0) > 0
        and np.isfinite([value[0], record.scalars["regime/normalized_loss"]]).all()
        and threshold(record, "fit") is not None
    ]


def _evidence(record: Record) -> str | None:
    found = generalization(record)
    return found[1] if found else None


def _quadrants(axes: Axes, fit: float, limit: float, *, inconsistent: bool) -> None:
    huge, tiny = 1e30, 1e-30
    corners = {
        "well-trained": (tiny, tiny, fit, limit),
        "over-trained": (tiny, limit, fit, huge),
        "under-trained": (fit, limit if inconsistent else tiny, huge, huge),
    }
    if inconsistent:
        corners["inconsistent"] = (fit, tiny, huge, limit)
    names = {
        "well-trained": (0.02, 0.03, "left", "bottom"),
        "over-trained": (0.02, 0.97, "left", "top"),
        "under-trained": (0.98, 0.97, "right", "top"),
        "inconsistent": (0.98, 0.03, "right", "bottom"),
    }
    for label, (left, bottom, right, top) in corners.items():
        colour = REGIMES[label].marker
        corner = [left, right, right, left], [bottom, bottom, top, top]
        axes.fill(*corner, color=colour, alpha=0.10, linewidth=0, zorder=0)
        x, y, horizontal, vertical = names[label]
        axes.text(
            x, y, label, transform=axes.transAxes, ha=horizontal, va=vertical, color=colour, fontsize=9, weight="bold"
        )
    axes.grid(visible=False)
    axes.axvline(fit, color=INK.marker, linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
    (line,) = axes.plot([tiny, huge if inconsistent else fit], [limit, limit], color=INK.marker, zorder=1)
    line.set(linewidth=0.8, linestyle=(0, (4, 3)))
    for spine in axes.spines.values():
        spine.set_color(GRID.marker)


def _margins(axes: Axes, paths: Sequence[tuple[RunView, list[Record]]], fit: float, limit: float) -> None:
    # Both thresholds and all points stay in sight, with the thresholds never at an edge.
    x = [record.scalars["regime/normalized_loss"] for _, path in paths for record in path]
    y = [value[0] for _, path in paths for record in path if (value := generalization(record))]
    axes.set_xlim(min(*x, fit) / 6, max(*x, fit, 1.0) * 3)
    axes.set_ylim(min(*y, limit) / 4, max(*y, limit) * 4)
