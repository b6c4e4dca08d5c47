"""Largest Hessian eigenvalues: ours, PyHessian, hessian-eigenthings and curvlinops with SciPy, at equal accuracy.

Each solver returns the five largest eigenvalues of the same trained network on the same batches. The truth comes from
SciPy's Krylov method on plain double-backward products in float64. A solver passes when all five values are right to
``TOLERANCE``. Peers are run at their defaults and "tuned": at the loosest setting of a small grid that passes, which a
user who does not know the truth cannot find. CPU time of the process, one thread, the median over rounds in which the
solvers take turns; ratios are to ours in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib
import io
import json
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import models
import numpy as np
import scipy.sparse.linalg
import torch
from models import Case
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_regimes.curvature import HessianOperator, eigsh
from lightning_regimes.probe import LossProbe

K = 5
TOLERANCE = 1e-3

#: What a solver returns: the values, and how many products with the Hessian (or with all batches') it spent.
Outcome = tuple[Sequence[float], int]


@dataclass(frozen=True)
class Solver:
    """A way to compute the eigenvalues, with its settings from the loosest to the tightest; ``None`` is its default."""

    name: str
    solve: Callable[[Case, Any], Outcome]
    settings: tuple[Any, ...] = (None,)


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    case: str
    solver: str
    setting: str
    seconds: float
    ratio: float
    num_matvecs: int
    error: float
    passes: bool


def ours(case: Case, setting: None) -> Outcome:
    """Solve with the defaults of this package."""
    with HessianOperator(LossProbe(case.module, case.batches, loss=models.loss)) as operator:
        pairs = eigsh(operator, K, tol=TOLERANCE)
    return pairs.values.tolist(), pairs.num_matvecs


def ours_certified(case: Case, setting: None) -> Outcome:
    """Solve with the search for what a single start vector cannot see."""
    with HessianOperator(LossProbe(case.module, case.batches, loss=models.loss)) as operator:
        pairs = eigsh(operator, K, tol=TOLERANCE, certify=True)
    return pairs.values.tolist(), pairs.num_matvecs


def pyhessian(case: Case, tol: float | None) -> Outcome:
    """Power iteration with deflation; at its defaults 100 iterations a value and a tolerance of 1e-3."""
    implementation: Any = importlib.import_module("pyhessian.hessian")  # the package hides it behind a class

    data = {"data": case.batches[0]} if len(case.batches) == 1 else {"dataloader": case.batches}
    solver = implementation.hessian(case.module, models.cross_entropy, cuda=False, **data)
    count = 0

    def counted(product: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal count
            count += 1
            return product(*arguments)

        return call

    single = implementation.hessian_vector_product
    implementation.hessian_vector_product = counted(single)
    solver.dataloader_hv_product = counted(solver.dataloader_hv_product)
    try:
        options = {} if tol is None else {"tol": tol, "maxIter": 2000}
        values, _ = solver.eigenvalues(top_n=K, **options)
    finally:
        implementation.hessian_vector_product = single
        case.module.zero_grad()
    return values, count


def eigenthings_lanczos(case: Case, num_steps: int | None) -> Outcome:
    """Lanczos with a fixed number of steps; at its default 2 k."""
    from hessian_eigenthings import HessianOperator as Operator
    from hessian_eigenthings import lanczos

    result = lanczos(Operator(case.module, case.batches, models.loss), k=K, max_iter=num_steps, which="LA", seed=0)
    return result.eigenvalues.tolist(), result.iterations


def curvlinops_scipy(case: Case, tol: float | None) -> Outcome:
    """SciPy's implicitly restarted Lanczos on the operator of curvlinops; without a setting at the same tolerance."""
    from curvlinops import HessianLinearOperator

    class CrossEntropy(nn.CrossEntropyLoss):
        def forward(self, output: Tensor, target: Tensor) -> Tensor:
            return models.cross_entropy(output, target)

    operator = HessianLinearOperator(
        case.module, CrossEntropy(), list(case.module.parameters()), case.batches, check_deterministic=False
    ).to_scipy(dtype=np.float32)
    count = 0

    def product(vector: np.ndarray) -> np.ndarray:
        nonlocal count
        count += 1
        return operator @ vector

    counted = scipy.sparse.linalg.LinearOperator(operator.shape, matvec=product, dtype=np.float32)
    start = np.random.default_rng(0).standard_normal(operator.shape[0]).astype(np.float32)
    values = scipy.sparse.linalg.eigsh(
        counted, K, which="LA", tol=TOLERANCE if tol is None else tol, v0=start, return_eigenvectors=False
    )
    return np.sort(values)[::-1].tolist(), count


SOLVERS = (
    Solver("lightning-regimes", ours),
    Solver("lightning-regimes, certified", ours_certified),
    Solver("PyHessian", pyhessian),
    Solver("PyHessian, tuned", pyhessian, (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7)),
    Solver("eigenthings", eigenthings_lanczos),
    Solver("eigenthings, tuned", eigenthings_lanczos, (10, 15, 20, 25, 30, 35, 40, 45, 50)),
    Solver("curvlinops + scipy", curvlinops_scipy),
    Solver("curvlinops + scipy, tuned", curvlinops_scipy, (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)),
)


def true_eigenvalues(case: Case) -> np.ndarray:
    """Return the largest eigenvalues to 1e-9, from plain double-backward products in float64."""
    module = copy.deepcopy(case.module).double()
    parameters = list(module.parameters())
    batches = [(x.double() if x.is_floating_point() else x, y) for x, y in case.batches]
    counts = [len(batch[0]) for batch in batches]

    def product(vector: np.ndarray) -> np.ndarray:
        direction = torch.from_numpy(np.ascontiguousarray(vector).reshape(-1))
        total = torch.zeros_like(direction)
        for batch, count in zip(batches, counts, strict=True):
            gradient = torch.autograd.grad(models.loss(module, batch), parameters, create_graph=True)
            slope = torch.cat([part.flatten() for part in gradient]) @ direction
            products = torch.autograd.grad(slope, parameters)
            total += count / sum(counts) * torch.cat([part.flatten() for part in products])
        return total.numpy()

    size = case.num_parameters
    operator = scipy.sparse.linalg.LinearOperator((size, size), matvec=product, dtype=np.float64)
    start = np.random.default_rng(1).standard_normal(size)
    with sdpa_kernel(SDPBackend.MATH):
        values = scipy.sparse.linalg.eigsh(
            operator, K, which="LA", tol=1e-9, ncv=40, v0=start, return_eigenvectors=False
        )
    return np.sort(values)[::-1]


def run(solver: Solver, case: Case, setting: Any) -> tuple[float, Outcome]:
    """Return the CPU seconds of one solution on a copy of the network, and the outcome."""
    fresh = Case(case.name, copy.deepcopy(case.module), case.batches)
    torch.manual_seed(0)
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        began = time.process_time()
        outcome = solver.solve(fresh, setting)
        return time.process_time() - began, outcome


def largest_error(outcome: Outcome, truth: np.ndarray) -> float:
    """Return the largest relative error of the values."""
    return float(np.max(np.abs(np.asarray(outcome[0]) / truth - 1)))


def loosest_passing(solver: Solver, case: Case, truth: np.ndarray) -> Any:
    """Return the first setting of the grid that passes, or the last one."""
    for setting in solver.settings:
        if largest_error(run(solver, case, setting)[1], truth) <= TOLERANCE:
            return setting
    return solver.settings[-1]


def compare(case: Case, solvers: Sequence[Solver], num_rounds: int) -> list[Result]:
    """Run all solvers in turns and return a row for each."""
    truth = true_eigenvalues(case)
    settings = [loosest_passing(solver, case, truth) for solver in solvers]
    rounds = [
        [run(solver, case, setting) for solver, setting in zip(solvers, settings, strict=True)]
        for _ in range(num_rounds)
    ]
    seconds = [statistics.median(turn[index][0] for turn in rounds) for index in range(len(solvers))]
    rows = []
    for index, (solver, setting) in enumerate(zip(solvers, settings, strict=True)):
        outcome = rounds[0][index][1]
        error = largest_error(outcome, truth)
        rows.append(
            Result(
                case=case.name,
                solver=solver.name,
                setting="" if setting is None else f"{setting:g}",
                seconds=seconds[index],
                ratio=seconds[index] / seconds[0],
                num_matvecs=outcome[1],
                error=error,
                passes=error <= TOLERANCE,
            )
        )
    return rows


def table(rows: Sequence[Result]) -> Table:
    """Return the rows as a table."""
    result = Table(title=f"Five largest Hessian eigenvalues, pass: all within {TOLERANCE:g}")
    for heading in ("case", "solver", "setting", "CPU s", "ratio", "products", "error", ""):
        result.add_column(heading, justify="left" if heading in ("case", "solver", "") else "right")
    for row in rows:
        result.add_row(
            row.case,
            row.solver,
            row.setting,
            f"{row.seconds:.3f}",
            f"{row.ratio:.2f}",
            str(row.num_matvecs),
            f"{row.error:.1e}",
            "" if row.passes else "miss",
        )
    return result


def main() -> None:
    """Parse the command line, run, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[], help=f"of {', '.join(models.CASES)}; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Result] = []
    for name in arguments.cases or models.CASES:
        rows += compare(models.CASES[name](), SOLVERS, arguments.rounds)
    Console(width=120).print(table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


if __name__ == "__main__":
    main()
