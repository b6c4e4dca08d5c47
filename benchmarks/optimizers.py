"""Optimizers for matrices: what their functions of a matrix and their steps cost, beside other packages.

The functions are those that Muon, RMNP and HTMuon apply to a momentum, of shape 512 × 512 and 1024 × 4096. Next to ours
stands the published scheme of nested square roots for HTMuon, restated here. Its Gram matrix is that of the shorter
side, which as published it need not be. "Error" is the largest relative Frobenius error on five spectra against a
decomposition in float64: of the polar factor for Newton–Schulz, and of the power 1/8 for all else.

The steps are those of one matrix of either shape, and of the parameters of a small LLaMA; embedding, head and norms go
to AdamW there, in the same optimizer where it can do that, and else in a second one. All have a weight decay of 0.1,
but for the rows that say otherwise. heavyball is not compiled.

heavyball does not go together with Landscaper: the extra [peers] brings it from Python 3.13 on, and below it wants an
environment of its own.

CPU time of the process, one thread. In each round every solver gets its turn, and ratios are medians over the rounds of
the ratio to the first solver of the task: Newton–Schulz in float32, or SGD with Nesterov's momentum. What takes more
than two seconds takes part in the first two rounds. bfloat16 is slow on a CPU without it, so that beyond 512²
only ``--bfloat16`` runs it; ``--large`` adds the functions at 4096 × 4096, without errors.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from readme_table import markdown_table, update_readme
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from lightning_regimes.optim import RMNP, HTMuon, Muon, newton_schulz, row_normalize, spectral_power
from lightning_regimes.spectral import power_expansion

POWER = 1 / 8
SHAPES = ((512, 512), (1024, 4096))
LARGE = (4096, 4096)
DECAY = 0.1

Shape = tuple[int, ...]

#: The shortest time that is measured, and what is too long for every round, in seconds.
SHORTEST, LONG = 0.02, 2.0

#: The peers of this comparison, and the modules that they are imported by.
PEERS = {"pytorch-optimizer": "pytorch_optimizer", "heavyball": "heavyball"}


@dataclass(frozen=True)
class Result:
    """One row of the tables; products and errors, one for each spectrum, are those of a function."""

    task: str
    solver: str
    seconds: float
    ratio: float
    products: int | None = None
    errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MatrixFunction:
    """A function of a matrix, the power of the singular values that it stands for, and its number of products."""

    compute: Callable[[Tensor], Tensor]
    power: float | None = None
    num_products: Callable[[Tensor], int] = lambda _: 0
    is_bfloat16: bool = False


# The functions of a matrix


NUM_ROOTS, NUM_NEWTON_STEPS = round(-math.log2(POWER)) + 1, 5


def nested_square_roots(x: Tensor) -> Tensor:
    """HTMuon_NS of arXiv:2603.10067: NS5(M) times the sixteenth root of MᵀM, by coupled Newton iterations."""
    if x.shape[0] < x.shape[1]:
        return nested_square_roots(x.mT).mT
    identity = torch.eye(x.shape[1], dtype=x.dtype)
    root = x.mT @ x + 1e-6 * identity
    for _ in range(NUM_ROOTS):
        norm = root.norm()
        y, z = root / norm, identity
        for _ in range(NUM_NEWTON_STEPS):
            t = 3 * identity - z @ y
            y, z = 0.5 * y @ t, 0.5 * t @ z
        root = y * norm.sqrt()
    return newton_schulz(x) @ root


def polynomial(lower: float, *, gram: bool | None = None) -> MatrixFunction:
    """Return the polynomial that resolves singular values down to ``lower``."""
    expansion = power_expansion(POWER, lower=lower)
    return MatrixFunction(
        functools.partial(expansion, gram=gram), POWER, lambda x: expansion.num_matmuls(x.shape, gram=gram)
    )


FUNCTIONS = {
    "Newton–Schulz, float32": MatrixFunction(newton_schulz, 0.0, lambda _: 15),
    "Newton–Schulz, bfloat16": MatrixFunction(
        functools.partial(newton_schulz, dtype=torch.bfloat16), 0.0, lambda _: 15, is_bfloat16=True
    ),
    "row normalization": MatrixFunction(row_normalize),
    "polynomial to 1e-2": polynomial(1e-2),
    "polynomial to 1e-4": polynomial(1e-4),
    "polynomial to 1e-4, direct": polynomial(1e-4, gram=False),
    "eigenvalues of the Gram matrix": MatrixFunction(lambda x: spectral_power(x, POWER, method="eigh"), POWER),
    "singular value decomposition": MatrixFunction(lambda x: spectral_power(x, POWER, method="svd"), POWER),
    "nested square roots": MatrixFunction(
        nested_square_roots, POWER, lambda _: 15 + 1 + NUM_ROOTS * NUM_NEWTON_STEPS * 3 + 1
    ),
}


def gaussian(rows: int, columns: int, *, seed: int) -> Tensor:
    """Return independent normal entries in float64."""
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spectra(rows: int, columns: int) -> Iterator[tuple[str, Tensor]]:
    """Give the names of five spectra, and matrices in float64 that have them."""
    rank = min(rows, columns)
    left = torch.linalg.qr(gaussian(rows, rank, seed=1)).Q
    right = torch.linalg.qr(gaussian(columns, rank, seed=2)).Q.mT
    number = torch.arange(rank, dtype=torch.float64)
    yield "Gaussian", gaussian(rows, columns, seed=0)
    yield "two decades", left * 10 ** (-2 * number / (rank - 1)) @ right
    yield "three decades", left * 10 ** (-3 * number / (rank - 1)) @ right
    yield "1/k", left / (number + 1) @ right
    low = gaussian(rows, 16, seed=3) @ gaussian(16, columns, seed=4) / 4
    yield "low rank and noise", low + 0.03 * gaussian(rows, columns, seed=5)


def errors_of(functions: dict[str, MatrixFunction], rows: int, columns: int) -> dict[str, dict[str, float]]:
    """Return the relative Frobenius error of each function on each spectrum.

    The matrices have a spectral norm of 1/100. Only the nested scheme depends on it, and errs more at one.
    """
    found: dict[str, dict[str, float]] = {name: {} for name in functions}
    for spectrum, matrix in spectra(rows, columns):
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        values = values / (100 * values[0])
        x = (left * values @ right).float()
        for name, function in functions.items():
            if function.power is not None:
                exact = left * values**function.power @ right
                found[name][spectrum] = float((function.compute(x).double() - exact).norm() / exact.norm())
    return found


def functions_at(rows: int, columns: int, *, num_rounds: int, with_bfloat16: bool, with_errors: bool) -> list[Result]:
    """Return a row for each function at one shape."""
    functions = {
        name: function
        for name, function in FUNCTIONS.items()
        if (with_bfloat16 or not function.is_bfloat16) and (name != "polynomial to 1e-4, direct" or columns != rows)
    }
    x = gaussian(rows, columns, seed=0).float()
    computations = {name: functools.partial(function.compute, x) for name, function in functions.items()}
    errors = errors_of(functions, rows, columns) if with_errors else {}
    return [
        Result(f"{rows} × {columns}", name, *timing, functions[name].num_products(x) or None, errors.get(name, {}))
        for name, timing in in_turns(computations, num_rounds).items()
    ]


# The steps of optimizers


@dataclass(frozen=True)
class Parameters:
    """Parameters of one solver: matrices, and whatever else there is."""

    matrices: list[nn.Parameter]
    others: list[nn.Parameter]

    @classmethod
    def of_shapes(cls, matrices: Sequence[Shape], others: Sequence[Shape]) -> Parameters:
        """Return random parameters of these shapes."""
        return cls(*([nn.Parameter(torch.randn(shape) / 16) for shape in shapes] for shapes in (matrices, others)))

    @property
    def all(self) -> list[nn.Parameter]:
        """All of them in one list."""
        return [*self.matrices, *self.others]

    def groups(self) -> list[dict[str, Any]]:
        """Return the groups of our optimizers."""
        others = [{"params": self.others, "algorithm": "adamw"}] if self.others else []
        return [{"params": self.matrices, "algorithm": "matrix"}, *others]


#: Builds the optimizers whose steps together are one step.
Build = Callable[[Parameters], list[torch.optim.Optimizer]]


def single(optimizer: Callable[..., torch.optim.Optimizer], **options: Any) -> Build:
    """Build one optimizer for all parameters alike."""
    return lambda parameters: [optimizer(parameters.all, lr=1e-5, **{"weight_decay": DECAY} | options)]


def ours(optimizer: Callable[..., torch.optim.Optimizer], **options: Any) -> Build:
    """Build one of ours."""
    return lambda parameters: [optimizer(parameters.groups(), lr=1e-5, **{"weight_decay": DECAY} | options)]


def beside_adamw(optimizer: Callable[..., torch.optim.Optimizer]) -> Build:
    """Build an optimizer for the matrices alone, and AdamW for the others."""

    def build(parameters: Parameters) -> list[torch.optim.Optimizer]:
        adamw = [torch.optim.AdamW(parameters.others, lr=1e-5, weight_decay=DECAY)] if parameters.others else []
        return [optimizer(parameters.matrices, lr=1e-5, weight_decay=DECAY), *adamw]

    return build


def pytorch_optimizer_muon(parameters: Parameters) -> list[torch.optim.Optimizer]:
    """Build the Muon of pytorch-optimizer, which has an AdamW of its own."""
    from pytorch_optimizer import Muon as TheirMuon

    others = [{"params": parameters.others, "use_muon": False}] if parameters.others else []
    groups = [{"params": parameters.matrices, "use_muon": True}, *others]
    return [TheirMuon(groups, lr=1e-5, weight_decay=DECAY, adamw_lr=1e-5, adamw_wd=DECAY)]


def heavyball_muon(parameters: Parameters) -> list[torch.optim.Optimizer]:
    """Build the Muon of heavyball, which would take embeddings for matrices if it had them."""
    import heavyball

    heavyball.utils.compile_mode = None  # compilation takes longer than all steps of this comparison together
    return beside_adamw(heavyball.Muon)(parameters)


def builds(*, with_bfloat16: bool) -> dict[str, Build]:
    """Return the solvers that are installed; those of others compute in bfloat16."""
    nesterov = {"momentum": 0.95, "nesterov": True}
    solvers = {
        "SGD with Nesterov's momentum": single(torch.optim.SGD, **nesterov),
        "SGD, fused": single(torch.optim.SGD, **nesterov, fused=True),
        "AdamW": single(torch.optim.AdamW),
        "AdamW, fused": single(torch.optim.AdamW, fused=True),
        "RMNP": ours(RMNP),
        "Muon": ours(Muon),
        "HTMuon, eigenvalues": ours(HTMuon, method="eigh"),
        "HTMuon, polynomial": ours(HTMuon, method="polynomial"),
    }
    if not with_bfloat16:
        return solvers
    if hasattr(torch.optim, "Muon"):
        solvers["Muon of torch"] = beside_adamw(torch.optim.Muon)
    if is_installed("pytorch-optimizer"):
        solvers["Muon of pytorch-optimizer"] = pytorch_optimizer_muon
    if is_installed("heavyball"):
        solvers["Muon of heavyball"] = heavyball_muon
    return solvers


def without_decay() -> dict[str, Build]:
    """Return SGD and RMNP without weight decay, which costs SGD more than RMNP."""
    return {
        "SGD with Nesterov's momentum": single(torch.optim.SGD, momentum=0.95, nesterov=True, weight_decay=0.0),
        "RMNP": ours(RMNP, weight_decay=0.0),
    }


def llama_shapes(
    *, num_layers: int = 6, width: int = 256, hidden: int = 688, vocabulary: int = 4096
) -> tuple[Sequence[Shape], Sequence[Shape]]:
    """Return the shapes of the matrices of a LLaMA, and of its embedding, head and norms."""
    layer = [(width, width)] * 4 + [(hidden, width)] * 2 + [(width, hidden)]
    return layer * num_layers, [(vocabulary, width)] * 2 + [(width,)] * (2 * num_layers + 1)


def step_of(build: Build, parameters: Parameters) -> Callable[[], None]:
    """Return one step with gradients that stay the same."""
    gradients = [torch.randn_like(parameter) / 16 for parameter in parameters.all]
    optimizers = build(parameters)

    def step() -> None:
        # Some take the gradients away.
        for parameter, gradient in zip(parameters.all, gradients, strict=True):
            parameter.grad = gradient
        for optimizer in optimizers:
            optimizer.step()

    return step


def steps_of(
    task: str,
    solvers: dict[str, Build],
    matrices: Sequence[Shape],
    others: Sequence[Shape] = (),
    *,
    num_rounds: int,
) -> list[Result]:
    """Return a row for the step of each solver on parameters of these shapes."""
    torch.manual_seed(0)
    computations = {name: step_of(build, Parameters.of_shapes(matrices, others)) for name, build in solvers.items()}
    return [Result(task, name, *timing) for name, timing in in_turns(computations, num_rounds).items()]


# Measuring and reporting


def in_turns(computations: Mapping[str, Callable[[], Any]], num_rounds: int) -> dict[str, tuple[float, float]]:
    """Return the median CPU seconds of each computation, and the median ratio to the first one in the same round."""
    repeats = {}
    for name, compute in computations.items():
        first = seconds_of(compute)
        repeats[name] = 1 if first > LONG else max(1, math.ceil(SHORTEST / max(seconds_of(compute), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in computations}
    for number in range(num_rounds):
        for name, compute in computations.items():
            if number < 2 or seconds[name][0] < LONG:
                seconds[name].append(seconds_of(compute, repeats[name]))
    base = seconds[next(iter(computations))]
    return {
        name: (
            statistics.median(spent),
            statistics.median(mine / first for mine, first in zip(spent, base, strict=False)),
        )
        for name, spent in seconds.items()
    }


def seconds_of(compute: Callable[[], Any], repeats: int = 1) -> float:
    """Return the CPU seconds of one call."""
    began = time.process_time()
    for _ in range(repeats):
        compute()
    return (time.process_time() - began) / repeats


def is_installed(peer: str) -> bool:
    """Return whether another package can be imported."""
    return importlib.util.find_spec(PEERS[peer]) is not None


def number_text(value: float) -> str:
    """Return a number with three digits, or as many as it has before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(title: str, results: Sequence[Result]) -> Table:
    """Return the rows as a table."""
    is_function = any(row.errors for row in results)
    headings = ["task", "solver", "CPU s", "ratio", *(["products", "error"] if is_function else [])]
    result = Table(title=title)
    for heading in headings:
        result.add_column(heading, justify="left" if heading in ("task", "solver") else "right")
    for row in results:
        products = "" if row.products is None else str(row.products)
        error = f"{max(row.errors.values()):.2g}" if row.errors else ""
        cells = [row.task, row.solver, f"{row.seconds:.2g}", number_text(row.ratio), products, error]
        result.add_row(*cells[: len(headings)])
    return result


def markdown(results: Sequence[Result], *, is_function: bool) -> str:
    """Return the ratios with a line for each solver and a column for each task; functions with products and errors."""
    tasks = list(dict.fromkeys(row.task for row in results))
    found = {(row.solver, row.task): row for row in results}
    headings = ["solver", *(f"{task}{part}" for task in tasks for part in (("", ", error") if is_function else ("",)))]
    lines = []
    for solver in dict.fromkeys(row.solver for row in results):
        line = [solver]
        for task in tasks:
            row = found.get((solver, task))
            products = f" ({row.products})" if row is not None and row.products is not None else ""
            line.append("–" if row is None else number_text(row.ratio) + products)
            if is_function:
                line.append("–" if row is None or not row.errors else f"{max(row.errors.values()):.2g}")
        lines.append(line)
    return markdown_table(headings, lines)


def main() -> None:
    """Parse the command line, run, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--bfloat16", action="store_true", help="bfloat16 at 1024 × 4096 as well, which takes long")
    parser.add_argument("--large", action="store_true", help="the functions at 4096 × 4096 as well")
    parser.add_argument("--json", type=Path, help="file for the rows")
    parser.add_argument("--markdown", type=Path, metavar="JSON", help="write the tables of the README from such a file")
    arguments = parser.parse_args()
    if arguments.markdown is not None:
        rows = {
            name: [Result(**row) for row in part] for name, part in json.loads(arguments.markdown.read_text()).items()
        }
        update_readme("matrix_functions", markdown(rows["functions"], is_function=True))
        update_readme("optimizer_steps", markdown(rows["steps"], is_function=False))
        return
    torch.set_num_threads(1)
    console = Console(width=120)
    for peer in PEERS:
        if not is_installed(peer):
            console.print(f"{peer} is not installed, and its rows are left out: pip install {peer}", markup=False)
    num_rounds = arguments.rounds
    functions, steps = [], []
    for shape in (*SHAPES, *([LARGE] if arguments.large else [])):
        with_bfloat16 = arguments.bfloat16 or shape == SHAPES[0]
        functions += functions_at(
            *shape, num_rounds=num_rounds, with_bfloat16=with_bfloat16, with_errors=shape != LARGE
        )
    console.print(table("Functions of a matrix", functions))
    for shape in SHAPES:
        name = f"{shape[0]} × {shape[1]}"
        solvers = builds(with_bfloat16=arguments.bfloat16 or shape == SHAPES[0])
        steps += steps_of(name, solvers, [shape], num_rounds=num_rounds)
        steps += steps_of(f"{name}, no decay", without_decay(), [shape], num_rounds=num_rounds)
    steps += steps_of("LLaMA", builds(with_bfloat16=True), *llama_shapes(), num_rounds=num_rounds)
    console.print(table("Steps of optimizers", steps))
    if arguments.json is not None:
        rows_of = {"functions": functions, "steps": steps}
        text = json.dumps({name: [asdict(row) for row in part] for name, part in rows_of.items()}, indent=1)
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
