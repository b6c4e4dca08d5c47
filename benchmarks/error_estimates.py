"""Estimated against true errors of the runs of finished sweeps, and what they do to the labels.

python benchmarks/error_estimates.py \\
    runs/sweeps/pinn_{convection,reaction,wave,burgers,helmholtz,reaction_diffusion} \\
    --figure docs/images/estimated_errors.svg
python benchmarks/error_estimates.py runs/sweeps/neural_ode_pendulum --threshold 0.1
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from lightning_regimes.regimes import Regime, RegimeReport, RegimeThresholds, classify

COLOURS = ("#1f5fa8", "#d98200", "#3a7d44", "#7a3fc4", "#b3261e", "#4f8a8b")


def finished_runs(folder: Path) -> list[dict[str, Any]]:
    """Return parameters and numbers of the runs of a sweep that came to an end."""
    rows = [json.loads(line) for line in (folder / "cells.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["status"] == "finished"]


def labels(values: dict[str, float], thresholds: RegimeThresholds) -> tuple[RegimeReport, RegimeReport, RegimeReport]:
    """Return the regime by the true error, by the estimate, and by the held-out loss alone."""
    common: dict[str, Any] = {"reference_loss": 1.0, "thresholds": thresholds}
    loss, heldout = values["regime/normalized_loss"], values["regime/normalized_heldout_loss"]
    error, estimate = values["regime/test_error"], values.get("regime/estimated_error")
    return (
        classify(loss, error=error, **common),
        classify(loss, estimated_error=estimate, heldout_loss=heldout, **common),
        classify(loss, heldout_loss=heldout, **common),
    )


def majority(found: Sequence[Regime]) -> Regime:
    """Return the most frequent regime."""
    return Counter(found).most_common(1)[0][0]


def row(name: str, runs: list[dict[str, Any]], thresholds: RegimeThresholds) -> list[str]:
    """Return a row of the table: agreement of both labels with the true one, and how far off the estimates are."""
    cells: dict[tuple[Any, ...], list[tuple[Regime, ...]]] = defaultdict(list)
    fitted, changed = [], [0.0, 0.0, 0.0]
    for run in runs:
        reports = labels(run["values"], thresholds)
        found = tuple(report.label for report in reports)
        key = tuple(value for parameter, value in run["parameters"].items() if parameter != "seed_everything")
        cells[key].append(found)
        changed = [sum_so_far + 1 - report.agreement for sum_so_far, report in zip(changed, reports, strict=True)]
        if run["values"]["regime/normalized_loss"] <= thresholds.fit:
            fitted.append((run["values"], found))
    every = [found for seeds in cells.values() for found in seeds]

    def agreement(of: Sequence[tuple[Regime, ...]], which: int) -> str:
        return f"{sum(found[0] is found[which] for found in of)}/{len(of)}"

    voted = [tuple(majority(column) for column in zip(*seeds, strict=True)) for seeds in cells.values()]
    ratios = [
        values["regime/estimated_error"] / values["regime/test_error"]
        for values, _ in fitted
        if "regime/estimated_error" in values
    ]
    off = np.abs(np.array(ratios) - 1)
    both = [found for _, found in fitted]
    return [
        name,
        *(agreement(every, which) for which in (2, 1)),
        *(agreement(voted, which) for which in (2, 1)),
        *(agreement(both, which) for which in (2, 1)),
        f"{len(ratios)}/{len(fitted)}",
        *(f"{100 * value:.2g} %" if len(off) else "–" for value in (np.median(off), off.max(initial=0.0))),
        f"{100 * changed[1] / len(runs):.1f} %",
    ]


def draw(sweeps: dict[str, list[dict[str, Any]]]) -> Figure:
    """Draw the estimate, and the held-out loss, over the true error; a hollow mark is a run that is not fitted."""
    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    for (name, runs), colour in zip(sweeps.items(), COLOURS, strict=False):
        for values in (run["values"] for run in runs):
            fitted = values["regime/normalized_loss"] <= 0.025
            style: dict[str, Any] = {"markersize": 3.5, "markeredgecolor": colour, "markeredgewidth": 0.7}
            style |= {"markerfacecolor": colour if fitted else "none", "linestyle": "none", "marker": "o"}
            if "regime/estimated_error" in values:
                left.plot(values["regime/test_error"], values["regime/estimated_error"], **style)
            right.plot(values["regime/test_error"], values["regime/normalized_heldout_loss"], **style)
        left.plot([], [], "o", color=colour, markersize=4, label=name)
    for axes, limit, label in ((left, 0.05, "estimated error"), (right, 0.025, "held-out loss / reference")):
        axes.set(xscale="log", yscale="log", xlabel="relative error against the solution", ylabel=label)
        axes.axvline(0.05, color="#999999", linewidth=0.7, linestyle="--", zorder=0)
        axes.axhline(limit, color="#999999", linewidth=0.7, linestyle="--", zorder=0)
    ends = left.get_xlim()
    left.plot(ends, ends, color="#999999", linewidth=0.7, zorder=0)
    left.legend(fontsize="small", frameon=False)
    return figure


def main() -> None:
    """Print the table, and draw the figure if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folders", type=Path, nargs="+", help="of finished sweeps")
    parser.add_argument("--figure", type=Path, help="where to draw")
    parser.add_argument("--threshold", type=float, default=RegimeThresholds().error, help="of a low error")
    arguments = parser.parse_args()
    thresholds = RegimeThresholds(error=arguments.threshold)
    sweeps = {
        folder.name.removeprefix("pinn_").replace("_", " "): finished_runs(folder) for folder in arguments.folders
    }
    headings = ("runs", "runs, estimate", "cells", "cells, estimate", "fitted", "fitted, estimate")
    table = Table("sweep", *headings, "estimates", "median off", "most off", "changed by ±20 %")
    for name, runs in sweeps.items():
        table.add_row(*row(name, runs, thresholds))
    Console(width=160).print(table)
    if arguments.figure is not None:
        draw(sweeps).savefig(arguments.figure)


if __name__ == "__main__":
    main()
