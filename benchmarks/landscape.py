"""Loss surfaces and their topology: ours and Landscaper.

Both evaluate the loss of a 64-32-10 network at the same points, in the two directions of largest curvature as
Landscaper rescales them, and compute SMAD from the same values; Landscaper's is the contour tree's. CPU time of the
process, one thread, the median over rounds in which the packages take turns; ratios are to ours on the same task. With
the surface, "error" is the largest relative difference of the losses, without the highest, to which Landscaper adds
noise; with SMAD, it is the relative difference of the two contour trees' values. Ours chooses the backend while it
runs, unless the row names it; building the probe counts.

Landscaper needs Python before 3.13.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import models
import numpy as np
import torch
from models import Case
from numpy.typing import NDArray
from readme_table import markdown_table, update_readme
from rich.console import Console
from rich.table import Table
from timing import timed
from torch import Tensor

from lightning_regimes.curvature import HessianOperator, eigsh
from lightning_regimes.landscape import Directions, LandscapeProfile, evaluate_surface, merge_tree, persistence, smad
from lightning_regimes.probe import LossProbe

POINTS = 21
DISTANCE = 0.1

Grid = NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    task: str
    solver: str
    seconds: float
    ratio: float | None
    error: float | None


@dataclass(frozen=True)
class Directed:
    """A network, and one direction a column, the norm of each being that of the parameters times the distance."""

    case: Case
    vectors: Tensor


def directed(batch_size: int) -> Directed:
    """Return the digits network on a batch, and the two directions of largest curvature as Landscaper rescales them."""
    case = models.digits_perceptron(batch_size)
    with HessianOperator(LossProbe(case.module, case.batches, loss=models.loss)) as operator:
        vectors = eigsh(operator, 2).vectors
    parameters = [parameter.detach() for parameter in case.module.parameters()]
    columns = []
    for column in vectors.T:
        parts = column.split([parameter.numel() for parameter in parameters])
        rescaled = torch.cat([part * part.numel() ** 0.5 / part.norm() for part in parts])
        columns.append(rescaled / rescaled.norm())
    return Directed(case, torch.stack(columns, dim=1))


#: Evaluates a surface on a copy of the network, from the distance and the number of points on an axis.
Solve = Callable[[Directed, Case, float, int], Grid]


def our_surface(task: Directed, case: Case, distance: float, points: int, **backend: Any) -> Grid:
    """Evaluate with this package."""
    probe = LossProbe(case.module, case.batches, loss=models.loss)
    axes = Directions(vectors=task.vectors, names=("first", "second"), kind="hessian", metadata={})
    # Landscaper's step is the distance over half the number of points, an odd one.
    span = distance * (points // 2) / (points / 2)
    return evaluate_surface(probe, axes, span=span, points=points, unit="norm", **backend).values


def their_surface(task: Directed, case: Case, distance: float, points: int) -> Grid:
    """Evaluate with Landscaper."""
    from landscaper.compute import compute_loss_landscape

    parameters = list(case.module.parameters())
    parts = [column.split([parameter.numel() for parameter in parameters]) for column in task.vectors.T]
    axes = [
        [part.view_as(parameter).clone() for part, parameter in zip(split, parameters, strict=True)] for split in parts
    ]
    values, _ = compute_loss_landscape(
        case.module,
        case.batches[0],
        axes,
        lambda module, batch: models.loss(module, batch).item(),
        steps=points,
        distance=distance,
        dim=2,
        device="cpu",
    )
    return np.asarray(values)


def their_smad(values: Grid) -> float:
    """Compute SMAD with Landscaper, from the contour tree."""
    from landscaper.landscape import LossLandscape

    return float(LossLandscape(values, [np.linspace(-1, 1, length) for length in values.shape]).smad())


def seconds_of(compute: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a computation, and what it returned."""
    began = time.process_time()
    outcome = compute()
    return time.process_time() - began, outcome


def compare_surfaces(batch_size: int, num_rounds: int) -> list[Result]:
    """Return rows for the evaluation of a surface on one batch."""
    task = directed(batch_size)
    solvers: dict[str, Solve] = {
        "lightning-regimes": our_surface,
        "lightning-regimes, vmap by 64": functools.partial(our_surface, backend="vmap", chunk_size=64),
        "lightning-regimes, loop": functools.partial(our_surface, backend="loop"),
        "Landscaper": their_surface,
    }
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    values: dict[str, Grid] = {}
    # The first round warms up.
    for number in range(num_rounds + 1):
        for name, solve in solvers.items():
            with contextlib.redirect_stderr(io.StringIO()):
                compute = functools.partial(_on_case, solve, task)
                spent, values[name] = timed(compute, task.case, seed=number)
            if number:
                seconds[name].append(spent)
    ours, theirs = values["lightning-regimes"], values["Landscaper"]
    below = theirs < theirs.max()
    error = float(np.abs(theirs / ours - 1)[below].max())
    return rows(f"surface, {POINTS}², batch of {batch_size}", seconds, {"Landscaper": error})


def _on_case(solve: Solve, task: Directed, case: Case) -> Grid:
    return solve(task, case, DISTANCE, POINTS)


def _profile(values: Grid) -> LandscapeProfile:
    return merge_tree(values).profile()


def compare_smad(points: int, num_rounds: int) -> list[Result]:
    """Return rows for SMAD of one surface."""
    task = directed(256)
    surface = our_surface(task, task.case, DISTANCE, points)
    solvers: dict[str, Callable[[], float]] = {
        "lightning-regimes": lambda: smad(surface),
        "lightning-regimes, contour tree": lambda: smad(surface, "contour_tree"),
        "Landscaper": lambda: their_smad(surface),
    }
    seconds: dict[str, list[float]] = {name: [] for name in solvers}
    values: dict[str, float] = {}
    for number in range(num_rounds + 1):
        for name, solve in solvers.items():
            for _ in range(1 if name == "Landscaper" else 20):
                spent, values[name] = seconds_of(solve)
                if number or name == "Landscaper":
                    seconds[name].append(spent)
    error = values["Landscaper"] / values["lightning-regimes, contour tree"] - 1
    return rows(f"SMAD, {points}²", seconds, {"Landscaper": abs(error)})


def large_grids(num_rounds: int) -> list[Result]:
    """Return rows for the topology of noise, with more minima than a loss has, on grids too large for Landscaper."""
    result = []
    for task, shape in {"noise, 101²": (101, 101), "noise, 31³": (31, 31, 31)}.items():
        values = np.random.default_rng(0).standard_normal(shape)
        solvers: dict[str, Callable[[], object]] = {
            "SMAD": functools.partial(smad, values),
            "SMAD, contour tree": functools.partial(smad, values, "contour_tree"),
            "profile": functools.partial(_profile, values),
            "persistence": functools.partial(persistence, values, dims=range(values.ndim)),
        }
        for name, solve in solvers.items():
            spent = [seconds_of(solve)[0] for _ in range(num_rounds + 1)][1:]
            result.append(Result(task, f"lightning-regimes, {name}", statistics.median(spent), None, None))
    return result


def rows(task: str, seconds: dict[str, list[float]], errors: dict[str, float]) -> list[Result]:
    """Return a row for each solver of a task; the first one is ours."""
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    base = next(iter(medians.values()))
    return [Result(task, name, median, median / base, errors.get(name)) for name, median in medians.items()]


def cells(row: Result) -> list[str]:
    """Return a row as text."""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}" if row.ratio < 100 else f"{row.ratio:,.0f}"
    error = "" if row.error is None else f"{row.error:.0e}" if row.error else "0"
    return [row.task, row.solver, f"{row.seconds:.2g}", ratio, error]


HEADINGS = ["task", "solver", "CPU s", "ratio", "error"]


def table(results: Sequence[Result]) -> Table:
    """Return the rows as a table."""
    result = Table(title="Loss surfaces and their topology")
    for heading in HEADINGS:
        result.add_column(heading, justify="left" if heading in ("task", "solver") else "right")
    for row in results:
        result.add_row(*cells(row))
    return result


def main() -> None:
    """Parse the command line, run, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="write the table of the README from such a file")
    arguments = parser.parse_args()
    if arguments.markdown is not None:
        results = [Result(**row) for row in json.loads(arguments.markdown.read_text())]
        update_readme("landscape", markdown_table(HEADINGS, [cells(row) for row in results]))
        return
    torch.set_num_threads(1)
    results = []
    for batch_size in (32, 256):
        results += compare_surfaces(batch_size, arguments.rounds)
    for points in (21, 31):
        results += compare_smad(points, 1 if points > 21 else arguments.rounds)
    results += large_grids(arguments.rounds)
    Console(width=120).print(table(results))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in results], indent=1) + "\n")


if __name__ == "__main__":
    main()
