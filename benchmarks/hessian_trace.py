"""Trace of the Hessian: ours, PyHessian, hessian-eigenthings and curvlinops, at equal numbers of products.

Each solver estimates the trace of the same network's Hessian with about m products, in many trials with seeds of their
own. The truth is the trace of the dense Hessian in float64, the error the root mean square of the relative errors. The
deflated estimate takes the five largest eigenpairs as known; with "pairs counted" the search for them comes out of the
m products. CPU time of the process for one estimate, one thread, the median over the trials, in
which the solvers take turns; ratios are to the deflated estimate with the same m.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import models
import peers
import torch
from dense_hessian import dense_hessian
from models import Case
from readme_table import markdown_table, update_readme
from rich.console import Console
from rich.table import Table
from timing import timed

from lightning_regimes.curvature import Eigenpairs, HessianOperator, eigsh, trace
from lightning_regimes.curvature.trace import Method
from lightning_regimes.probe import LossProbe

K = 5
BUDGETS = (15, 30, 60)

CASES: dict[str, Callable[[], Case]] = {
    "untrained": lambda: models.tiny(num_steps=0),
    "100 steps": models.tiny,
    "200 steps": lambda: models.tiny(num_steps=200),
}

#: What a solver returns: the estimate, and how many products it spent; ``None`` where the budget is too small.
Outcome = tuple[float, int] | None
Solve = Callable[[Case, Eigenpairs, int, int], Outcome]


@dataclass(frozen=True)
class Solver:
    """A way to estimate the trace, from a network, eigenpairs that are known, a number of products and a seed."""

    name: str
    solve: Solve


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    case: str
    solver: str
    budget: int
    num_matvecs: int
    seconds: float
    ratio: float
    error: float
    bias: float


def ours(case: Case, pairs: Eigenpairs, budget: int, seed: int, *, method: Method) -> Outcome:
    """Estimate with this package."""
    known = pairs if method == "deflated" else None
    with HessianOperator(LossProbe(case.module, case.batches, loss=models.loss)) as operator:
        found = trace(operator, method=method, num_samples=budget, eigenpairs=known, seed=seed)
    return found.value, found.num_matvecs


def ours_counted(case: Case, pairs: Eigenpairs, budget: int, seed: int) -> Outcome:
    """Estimate with this package, where the search for the eigenpairs is part of the budget."""
    with HessianOperator(LossProbe(case.module, case.batches, loss=models.loss)) as operator:
        pairs = eigsh(operator, K)
        if budget < pairs.num_matvecs + 2:
            return None
        found = trace(operator, num_samples=budget - pairs.num_matvecs, eigenpairs=pairs, seed=seed)
        return found.value, operator.num_matvecs


def eigenthings(case: Case, pairs: Eigenpairs, budget: int, seed: int, *, method: str) -> Outcome:
    """Estimate with hessian-eigenthings."""
    from hessian_eigenthings import trace as estimate

    counted = peers.eigenthings_hessian(case)
    found = estimate(counted.operator, num_matvecs=budget, method=method, seed=seed)
    return found.estimate, counted.num_matvecs


def curvlinops(case: Case, pairs: Eigenpairs, budget: int, seed: int, *, method: str) -> Outcome:
    """Estimate with curvlinops."""
    from curvlinops import hutchinson_trace, hutchpp_trace, xtrace

    estimate = {"hutchinson": hutchinson_trace, "hutch++": hutchpp_trace, "xtrace": xtrace}[method]
    counted = peers.curvlinops_hessian(case)
    found = estimate(counted.operator, budget // 2 * 2 if method == "xtrace" else budget)
    return float(found), counted.num_matvecs


def pyhessian(case: Case, pairs: Eigenpairs, budget: int, seed: int) -> Outcome:
    """Estimate with PyHessian, whose stopping test is put out of action: it would stop early by chance."""
    with peers.pyhessian_hessian(case) as counted:
        # The test divides by the running mean, so that any positive tolerance, and zero, stops at a negative one.
        samples = counted.operator.trace(maxIter=budget, tol=-math.inf)
    return statistics.fmean(samples), counted.num_matvecs


SOLVERS = (
    Solver("deflated", functools.partial(ours, method="deflated")),
    Solver("deflated, pairs counted", ours_counted),
    Solver("Hutchinson", functools.partial(ours, method="hutchinson")),
    Solver("Hutch++", functools.partial(ours, method="hutch++")),
    Solver("XTrace", functools.partial(ours, method="xtrace")),
    Solver("PyHessian", pyhessian),
    Solver("eigenthings Hutchinson", functools.partial(eigenthings, method="hutchinson")),
    Solver("eigenthings Hutch++", functools.partial(eigenthings, method="hutch++")),
    Solver("curvlinops Hutchinson", functools.partial(curvlinops, method="hutchinson")),
    Solver("curvlinops Hutch++", functools.partial(curvlinops, method="hutch++")),
    Solver("curvlinops XTrace", functools.partial(curvlinops, method="xtrace")),
)


def run(solver: Solver, case: Case, pairs: Eigenpairs, budget: int, seed: int) -> tuple[float, Outcome]:
    """Return the CPU seconds of one estimate, and the estimate."""
    return timed(lambda fresh: solver.solve(fresh, pairs, budget, seed), case, seed=seed)


def compare(
    name: str, case: Case, solvers: Sequence[Solver], budget: int, num_trials: int, truth: float
) -> list[Result]:
    """Run all trials of all solvers in turns and return a row for each."""
    with HessianOperator(LossProbe(case.module, case.batches, loss=models.loss)) as operator:
        pairs = eigsh(operator, K)
    values: dict[str, list[float]] = {solver.name: [] for solver in solvers}
    seconds: dict[str, list[float]] = {solver.name: [] for solver in solvers}
    counts: dict[str, int] = {}
    for seed in range(num_trials):
        for solver in solvers:
            spent, outcome = run(solver, case, pairs, budget, seed)
            if outcome is not None:
                values[solver.name].append(outcome[0] / truth - 1)
                seconds[solver.name].append(spent)
                counts[solver.name] = max(outcome[1], counts.get(solver.name, 0))
    base = statistics.median(seconds[solvers[0].name])
    return [
        Result(
            case=name,
            solver=solver.name,
            budget=budget,
            num_matvecs=counts[solver.name],
            seconds=statistics.median(seconds[solver.name]),
            ratio=statistics.median(seconds[solver.name]) / base,
            error=math.sqrt(statistics.fmean(error**2 for error in values[solver.name])),
            bias=statistics.fmean(values[solver.name]),
        )
        for solver in solvers
        if values[solver.name]
    ]


def table(rows: Sequence[Result]) -> Table:
    """Return the rows as a table."""
    result = Table(title="Trace of the Hessian")
    for heading in ("case", "m", "solver", "products", "CPU s", "ratio", "error", "bias"):
        result.add_column(heading, justify="left" if heading in ("case", "solver") else "right")
    for row in rows:
        result.add_row(
            row.case,
            str(row.budget),
            row.solver,
            str(row.num_matvecs),
            f"{row.seconds:.4f}",
            f"{row.ratio:.2f}",
            f"{row.error:.4f}",
            f"{row.bias:+.4f}",
        )
    return result


def markdown(rows: Sequence[Result]) -> str:
    """Return the rows as a table with a line for each solver: the errors, and the ratio at the largest budget."""
    columns = list(dict.fromkeys((row.case, row.budget) for row in rows))
    found = {(row.solver, row.case, row.budget): row for row in rows}
    last = columns[-1]
    lines = []
    for solver in dict.fromkeys(row.solver for row in rows):
        cells = [found.get((solver, *column)) for column in columns]
        timing = found.get((solver, *last))
        lines.append(
            [
                solver,
                *("–" if row is None else f"{100 * row.error:.1f}" for row in cells),
                "–" if timing is None else f"{timing.ratio:.2f}",
            ]
        )
    headings = [f"{case}, {budget}" for case, budget in columns]
    return markdown_table(["solver", *headings, f"CPU ratio, {last[1]}"], lines)


def main() -> None:
    """Parse the command line, run, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[], help=f"of {', '.join(CASES)}; default all")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="write the table of the README from such a file")
    arguments = parser.parse_args()
    if arguments.markdown is not None:
        update_readme("hessian_trace", markdown(read_rows(arguments.markdown)))
        return
    torch.set_num_threads(1)
    rows: list[Result] = []
    for name in arguments.cases or CASES:
        case = CASES[name]()
        truth = float(dense_hessian(case).trace())
        for budget in BUDGETS:
            rows += compare(name, case, SOLVERS, budget, arguments.trials, truth)
    Console(width=120).print(table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def read_rows(path: Path) -> list[Result]:
    """Return the rows that ``--json`` wrote."""
    return [Result(**row) for row in json.loads(path.read_text())]


if __name__ == "__main__":
    main()
