"""Density of the Hessian's eigenvalues: ours, PyHessian, hessian-eigenthings and curvlinops, at equal accuracy.

Each solver runs stochastic Lanczos quadrature on the same trained network, and broadens its nodes by the same Gaussian,
whose width is 1/200 of the extent of the spectrum. On small networks the truth is the spectrum of the dense Hessian in
float64, broadened alike. The error is the integral of the absolute difference, the mean over ten seeds; a solver passes
below ``TOLERANCE``. It is run "tuned": at the setting of a grid that passes with the fewest products. On larger
networks all run at the same setting, and mass, mean and mean square of the densities are held against plain sampling.
CPU time of the process, one thread, the median over rounds in which the solvers take turns; ratios are to ours.

PyHessian calls ``torch.eig``, which torch has removed. It is shown as it is, and with that function restored.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import models
import numpy as np
import peers
import torch
from dense_hessian import dense_hessian
from models import Case
from numpy.typing import NDArray
from readme_table import markdown_table, update_readme
from rich.console import Console
from rich.table import Table
from timing import timed

from lightning_regimes.curvature import HessianOperator, eigsh, spectral_density
from lightning_regimes.probe import LossProbe

Array = NDArray[np.float64]

TOLERANCE = 0.02
NUM_SEEDS = 10
NUM_POINTS = 4000
WIDTHS_IN_EXTENT = 200

DENSE: dict[str, Callable[[], Case]] = {"tiny": models.tiny, "small CNN": models.small_convolutional}
LARGE: dict[str, Callable[[], Case]] = {"MLP": models.perceptron, "CNN": models.convolutional}


@dataclass(frozen=True)
class Setting:
    """How many starts, and how many steps from each."""

    num_vectors: int
    num_steps: int

    def __str__(self) -> str:
        return f"{self.num_vectors} × {self.num_steps}"


@dataclass(frozen=True)
class Density:
    """A broadened density on an ascending grid, and how many products it took."""

    grid: Array
    values: Array
    num_matvecs: int


SETTINGS = sorted(
    (Setting(*pair) for pair in itertools.product((1, 2, 3, 4, 6, 8), (20, 30, 40, 60))),
    key=lambda setting: (setting.num_vectors * setting.num_steps, setting.num_steps),
)
EQUAL = Setting(3, 40)
DEFAULT = Setting(10, 80)

Solve = Callable[[Case, Setting, float, int], Density]


@dataclass(frozen=True)
class Solver:
    """A way to compute the density; with ``setting`` it runs there, else at the cheapest setting that passes."""

    name: str
    solve: Solve
    setting: Setting | None = None


@dataclass(frozen=True)
class Truth:
    """What the densities of a case are held against: the true one, or else samples of its mean and mean square."""

    width: float
    density: Density | None = None
    samples: Array | None = None


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    case: str
    solver: str
    setting: str
    seconds: float | None = None
    ratio: float | None = None
    num_matvecs: int | None = None
    error: float | None = None
    mass: float | None = None
    moment_errors: tuple[float, float] | None = None
    passes: bool | None = None
    failure: str = ""


def ours(case: Case, setting: Setting, width: float, seed: int) -> Density:
    """Solve with this package."""
    with HessianOperator(LossProbe(case.module, case.batches, loss=models.loss)) as operator:
        found = spectral_density(
            operator,
            num_vectors=setting.num_vectors,
            num_steps=setting.num_steps,
            grid=NUM_POINTS,
            width=width,
            seed=seed,
        )
    return Density(found.grid.numpy(), found.density.numpy(), found.num_matvecs)


def eigenthings(case: Case, setting: Setting, width: float, seed: int) -> Density:
    """Solve with hessian-eigenthings."""
    from hessian_eigenthings import spectral_density as solve

    counted = peers.eigenthings_hessian(case)
    found = solve(
        counted.operator,
        num_runs=setting.num_vectors,
        lanczos_steps=setting.num_steps,
        num_grid_points=NUM_POINTS,
        sigma=width,
        seed=1000 * seed,  # a start takes the seed after that of the one before
    )
    return Density(found.grid.double().numpy(), found.density.double().numpy(), counted.num_matvecs)


def curvlinops(case: Case, setting: Setting, width: float, seed: int) -> Density:
    """Solve with curvlinops, which first asks SciPy for the ends of the spectrum."""
    from curvlinops import LanczosApproximateSpectrumCached

    margin = 0.05
    counted = peers.curvlinops_hessian(case)
    cached = LanczosApproximateSpectrumCached(counted.operator, setting.num_steps)
    least, greatest = cached._boundaries
    # Its width is 1 / ((steps - 1) sqrt(2 ln kappa)) where half of the padded extent is one.
    half = (0.5 + margin) * float(greatest - least)
    kappa = math.exp((half / (width * (setting.num_steps - 1))) ** 2 / 2)
    grid, values = cached.approximate_spectrum(setting.num_vectors, NUM_POINTS, kappa=kappa, margin=margin)
    return Density(grid.double().numpy(), values.double().numpy(), counted.num_matvecs)


def pyhessian(case: Case, setting: Setting, width: float, seed: int) -> Density:
    """Solve with PyHessian, and broaden its nodes here, for which the package has no function."""
    with peers.pyhessian_hessian(case) as counted:
        nodes, weights = counted.operator.density(iter=setting.num_steps, n_v=setting.num_vectors)
    positions = np.asarray(nodes, dtype=np.float64).ravel()
    grid = np.linspace(positions.min() - 6 * width, positions.max() + 6 * width, NUM_POINTS)
    values = broadened(positions, np.asarray(weights, dtype=np.float64).ravel() / setting.num_vectors, grid, width)
    return Density(grid, values, counted.num_matvecs)


def pyhessian_restored(case: Case, setting: Setting, width: float, seed: int) -> Density:
    """Solve with PyHessian where torch has the function that it calls."""
    with _restored_eig():
        return pyhessian(case, setting, width, seed)


SOLVERS = (
    Solver("lightning-regimes", ours),
    Solver("lightning-regimes, default", ours, DEFAULT),
    Solver("eigenthings", eigenthings),
    Solver("eigenthings, default", eigenthings, DEFAULT),
    Solver("curvlinops", curvlinops),
    Solver("PyHessian", pyhessian),
    Solver("PyHessian, restored", pyhessian_restored),
)


def broadened(positions: Array, weights: Array, grid: Array, width: float) -> Array:
    """Return the sum of normal densities of the weights on the grid."""
    distances = (grid[:, None] - positions) / width
    return np.asarray(np.exp(-0.5 * distances**2) @ weights / (width * math.sqrt(2 * math.pi)))


def true_density(case: Case) -> Truth:
    """Return the broadened eigenvalues of the dense Hessian in float64."""
    eigenvalues = torch.linalg.eigvalsh(dense_hessian(case)).numpy()
    width = float(eigenvalues[-1] - eigenvalues[0]) / WIDTHS_IN_EXTENT
    grid = np.linspace(eigenvalues[0] - 8 * width, eigenvalues[-1] + 8 * width, 2 * NUM_POINTS)
    weights = np.full(len(eigenvalues), 1 / len(eigenvalues))
    return Truth(width, density=Density(grid, broadened(eigenvalues, weights, grid, width), 0))


def sampled_moments(case: Case, *, num_samples: int = 400) -> Truth:
    """Return samples of tr(H) / n and tr(H²) / n, shape (samples, 2), and the extent of the spectrum."""
    generator = torch.Generator().manual_seed(12345)
    with HessianOperator(LossProbe(case.module, case.batches, loss=models.loss)) as operator, operator.isolated():
        ends = eigsh(operator, 2, which="BE", tol=1e-2).values
        samples = []
        for _ in range(num_samples):
            vector = torch.randint(0, 2, (operator.shape[0],), generator=generator).float() * 2 - 1
            image = (operator @ vector).double()
            samples.append((float(vector.double() @ image), float(image @ image)))
    return Truth(float(ends.max() - ends.min()) / WIDTHS_IN_EXTENT, samples=np.array(samples) / case.num_parameters)


def distance(density: Density, truth: Truth) -> float:
    """Return the integral of the absolute difference from the broadened true spectrum."""
    assert truth.density is not None
    grid = truth.density.grid
    found = np.interp(grid, density.grid, density.values, left=0.0, right=0.0)
    return float(np.trapezoid(np.abs(found - truth.density.values), grid))


def moment_errors(density: Density, truth: Truth, setting: Setting) -> tuple[float, float]:
    """Return by how many standard errors mean and mean square differ from what was sampled."""
    assert truth.samples is not None
    found = [np.trapezoid(density.values * density.grid**power, density.grid) for power in (1, 2)]
    found[1] -= truth.width**2
    spread = truth.samples.std(0, ddof=1) * math.sqrt(1 / setting.num_vectors + 1 / len(truth.samples))
    first, second = np.abs(np.array(found) - truth.samples.mean(0)) / spread
    return float(first), float(second)


def run(solver: Solver, case: Case, setting: Setting, truth: Truth, seed: int) -> tuple[float, Density]:
    """Return the CPU seconds of one solution, and the density."""
    return timed(lambda fresh: solver.solve(fresh, setting, truth.width, seed), case, seed=seed)


def mean_distance(solver: Solver, case: Case, setting: Setting, truth: Truth) -> float:
    """Return the error of a solver at a setting, the mean over seeds, or the first one where that is hopeless."""
    errors: list[float] = []
    for seed in range(NUM_SEEDS):
        errors.append(distance(run(solver, case, setting, truth, seed)[1], truth))
        if errors[0] > 2 * TOLERANCE:
            break
    return statistics.fmean(errors)


def cheapest_passing(solver: Solver, case: Case, truth: Truth) -> Setting:
    """Return the setting of the grid that passes with the fewest products, or the last one."""
    smallest = 2 if solver.solve is ours else 1  # one start has no standard error
    for setting in SETTINGS:
        if setting.num_vectors >= smallest and mean_distance(solver, case, setting, truth) <= TOLERANCE:
            return setting
    return SETTINGS[-1]


def failure_of(solver: Solver, case: Case, truth: Truth) -> str:
    """Return the first sentence of the error that a solver raises, if any."""
    try:
        run(solver, case, Setting(2, 4), truth, 0)
    except (RuntimeError, AttributeError) as error:
        return str(error).split(". ")[0]
    return ""


def compare(case: Case, truth: Truth, solvers: Sequence[Solver], num_rounds: int) -> list[Result]:
    """Run all solvers in turns and return a row for each."""
    failures = {solver.name: failure_of(solver, case, truth) for solver in solvers}
    settings: dict[str, Setting] = {}
    for solver in solvers:
        if not failures[solver.name]:
            tuned = EQUAL if truth.density is None else None
            settings[solver.name] = solver.setting or tuned or cheapest_passing(solver, case, truth)
    rounds = [
        {
            solver.name: run(solver, case, settings[solver.name], truth, seed)
            for solver in solvers
            if solver.name in settings
        }
        for seed in range(num_rounds)
    ]
    rows = []
    for solver in solvers:
        if failures[solver.name]:
            rows.append(Result(case.name, solver.name, "", failure=failures[solver.name]))
            continue
        setting, density = settings[solver.name], rounds[0][solver.name][1]
        seconds, base = (statistics.median(turn[name][0] for turn in rounds) for name in (solver.name, solvers[0].name))
        error = None if truth.density is None else mean_distance(solver, case, setting, truth)
        rows.append(
            Result(
                case=case.name,
                solver=solver.name,
                setting=str(setting),
                seconds=seconds,
                ratio=seconds / base,
                num_matvecs=density.num_matvecs,
                error=error,
                mass=float(np.trapezoid(density.values, density.grid)),
                moment_errors=None if truth.samples is None else moment_errors(density, truth, setting),
                passes=None if error is None else error <= TOLERANCE,
            )
        )
    return rows


def table(rows: Sequence[Result]) -> Table:
    """Return the rows as a table."""
    result = Table(title=f"Density of the Hessian's eigenvalues, pass: error below {TOLERANCE:g}")
    for heading in ("case", "solver", "setting", "CPU s", "ratio", "products", "error", "mass", "moments", ""):
        result.add_column(heading, justify="left" if heading in ("case", "solver", "") else "right")
    for row in rows:
        if row.failure:
            result.add_row(row.case, row.solver, *[""] * 7, f"fails: {row.failure}")
            continue
        result.add_row(
            row.case,
            row.solver,
            row.setting,
            f"{row.seconds:.3f}",
            f"{row.ratio:.2f}",
            str(row.num_matvecs),
            "" if row.error is None else f"{row.error:.4f}",
            f"{row.mass:.4f}",
            "" if row.moment_errors is None else " ".join(f"{error:.1f}" for error in row.moment_errors),
            "miss" if row.passes is False else "",
        )
    return result


def markdown(rows: Sequence[Result]) -> str:
    """Return the rows as a table with a line for each case."""
    solvers = list(dict.fromkeys(row.solver for row in rows))
    lines = []
    for name in dict.fromkeys(row.case for row in rows):
        cells = {row.solver: _cell(row) for row in rows if row.case == name}
        lines.append([f"`{name}`", *(cells.get(solver, "") for solver in solvers)])
    return markdown_table(["case", *solvers], lines)


def main() -> None:
    """Parse the command line, run, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[], help=f"of {', '.join([*DENSE, *LARGE])}; default all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="write the table of the README from such a file")
    arguments = parser.parse_args()
    if arguments.markdown is not None:
        update_readme("spectral_density", markdown(read_rows(arguments.markdown)))
        return
    torch.set_num_threads(1)
    rows: list[Result] = []
    for name in arguments.cases or [*DENSE, *LARGE]:
        case = (DENSE | LARGE)[name]()
        if name in DENSE:
            rows += compare(case, true_density(case), SOLVERS, arguments.rounds)
        else:
            solvers = [solver for solver in SOLVERS if solver.setting is None]
            rows += compare(case, sampled_moments(case), solvers, arguments.rounds)
    Console(width=140).print(table(rows))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1, ensure_ascii=False) + "\n")


def read_rows(path: Path) -> list[Result]:
    """Return the rows that ``--json`` wrote."""
    return [Result(**row) for row in json.loads(path.read_text())]


def _cell(row: Result) -> str:
    if row.failure:
        return "fails"
    missed = ", misses" if row.passes is False else ""
    return f"{row.ratio:.2f} ({row.num_matvecs}{missed})"


@contextlib.contextmanager
def _restored_eig() -> Iterator[None]:
    def eig(matrix: torch.Tensor, eigenvectors: bool) -> tuple[torch.Tensor, torch.Tensor]:
        values, vectors = torch.linalg.eigh(matrix)
        return torch.stack([values, torch.zeros_like(values)], dim=1), vectors

    removed = torch.eig
    torch.eig = eig  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.eig = removed


if __name__ == "__main__":
    main()
