"""Which of the two solvers computes a graph kernel complexity, and with which ridge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.graph.aggregation import Aggregation, aggregate, check_aggregation
from lightning_regimes.graph.exact_scores import STEP_ENTRIES, ExactComplexity
from lightning_regimes.graph.nystrom_scores import NystromComplexity
from lightning_regimes.graph.target_source import LabelSource, check_features, find_targets
from lightning_regimes.graph.undirected_edges import UndirectedEdges, undirected_edges

Solver = Literal["auto", "exact", "nystrom"]
Normalize = Literal["features", "aggregated", "none"]

#: The exact solver's time grows with the square of the rows an edge and their cube once.
MOST_EXACT_ROWS = {"cpu": 4_000, "cuda": 20_000}

#: Below this ridge the scores of the low-rank kernel are noise.
SMALLEST_NYSTROM_RIDGE = 1.0


@dataclass(frozen=True)
class ComplexitySettings:
    """What a graph kernel complexity is of, with all defaults filled in.

    Attributes:
        labels: the source of the labels.
        lam: the ridge.
        normalize: which rows are scaled to unit norm.
        aggregation: how features are aggregated.
        solver: ``"exact"`` or ``"nystrom"``.
        rank: number of landmarks, None for the exact solver.
        num_rows: number of rows in use.
    """

    labels: LabelSource
    lam: float
    normalize: Normalize
    aggregation: Aggregation
    solver: Literal["exact", "nystrom"]
    rank: int | None
    num_rows: int


@dataclass(frozen=True, eq=False)
class PreparedComplexity:
    """A factorised kernel, ready for scores."""

    settings: ComplexitySettings
    edges: UndirectedEdges
    used: Tensor
    solution: ExactComplexity | NystromComplexity


def check_solver(solver: str) -> None:
    """Refuse an unknown solver."""
    if solver not in get_args(Solver):
        raise ValueError(f"`solver` is one of {', '.join(get_args(Solver))}, got {solver!r}")


def check_numbers(lam: float | None, rank: int) -> None:
    """Refuse a negative ridge, and less than one landmark."""
    if lam is not None and not lam >= 0:
        raise ValueError(f"`lam` is not negative, got {lam}")
    if rank < 1:
        raise ValueError(f"`rank` is at least 1, got {rank}")


def default_ridge(labels: LabelSource) -> float:
    """Return the ridge of a label source: labels that were guessed need a larger one."""
    return 1e-2 if labels == "train" else 30.0


def default_normalize(labels: LabelSource) -> Normalize:
    """Return what is scaled by default; with guessed labels the norm of an aggregated row says something."""
    return "aggregated" if labels == "train" else "features"


def scaled_features(x: Tensor, normalize: Normalize) -> Tensor:
    """Return the features to aggregate.

    Raises:
        ValueError: the name is unknown.
    """
    if normalize not in get_args(Normalize):
        raise ValueError(f"`normalize` is one of {', '.join(get_args(Normalize))}, got {normalize!r}")
    return torch.nn.functional.normalize(x.double(), dim=1) if normalize == "features" else x


def exact_gigabytes(num_nodes: int, num_rows: int) -> float:
    """Return the memory of the exact solver in GiB: the products of all rows, six square matrices, one step."""
    return 8 * (num_nodes * num_rows + 6 * num_rows**2 + 6 * STEP_ENTRIES) / 2**30


def choose_solver(
    solver: Solver, *, num_nodes: int, num_rows: int, device: torch.device, memory_limit: float
) -> Literal["exact", "nystrom"]:
    """Return the solver that ``"auto"`` stands for, or the one that was asked for if it fits.

    Raises:
        ValueError: the name is unknown, or the exact solver was asked for and needs more memory.
    """
    check_solver(solver)
    needed = exact_gigabytes(num_nodes, num_rows)
    if solver == "exact" and needed > memory_limit:
        raise ValueError(
            f"the exact solver needs about {needed:.1f} GiB for {num_rows} rows, `memory_limit` is {memory_limit:g}: "
            'raise it, or use `solver="nystrom"`'
        )
    if solver != "auto":
        return solver
    fits = needed <= memory_limit and num_rows <= MOST_EXACT_ROWS.get(device.type, MOST_EXACT_ROWS["cpu"])
    return "exact" if fits else "nystrom"


def prepare_complexity(
    edge_index: Tensor,
    x: Tensor | None,
    y: Tensor,
    train_mask: Tensor,
    *,
    labels: LabelSource = "train",
    lam: float | None = None,
    normalize: Normalize | None = None,
    aggregation: Aggregation = "mean",
    solver: Solver = "auto",
    rank: int = 300,
    allow_leak: bool = False,
    memory_limit: float = 4.0,
    seed: int = 0,
) -> PreparedComplexity:
    """Check the input, fill in defaults and factorise the kernel; for the arguments see `kc_scores`."""
    check_aggregation(aggregation)
    check_numbers(lam, rank)
    targets = find_targets(x, y, train_mask, labels, allow_leak=allow_leak)
    check_features(x, len(y))
    edges = undirected_edges(edge_index, len(y))
    num_rows = len(targets.used)
    ridge = default_ridge(labels) if lam is None else float(lam)
    chosen = choose_solver(
        solver, num_nodes=len(y), num_rows=num_rows, device=edge_index.device, memory_limit=memory_limit
    )
    if chosen == "nystrom":
        if lam is None:
            ridge = max(ridge, SMALLEST_NYSTROM_RIDGE)
        elif ridge < SMALLEST_NYSTROM_RIDGE:
            raise ValueError(
                f"`lam` is at least {SMALLEST_NYSTROM_RIDGE:g} with the Nyström solver, got {ridge:g}: with a smaller "
                "one its scores are noise"
            )
    normalize = default_normalize(labels) if normalize is None else normalize
    features = aggregate(None if x is None else scaled_features(x, normalize), edges, aggregation, torch.float64)
    unit_rows = normalize == "aggregated"
    settings = ComplexitySettings(
        labels=labels,
        lam=ridge,
        normalize=normalize,
        aggregation=aggregation,
        solver=chosen,
        rank=min(rank, num_rows) if chosen == "nystrom" else None,
        num_rows=num_rows,
    )
    solution: ExactComplexity | NystromComplexity
    if chosen == "exact":
        solution = ExactComplexity(features, targets.used, targets.values, ridge, normalize=unit_rows)
    else:
        solution = NystromComplexity(
            features, targets.used, targets.values, ridge, normalize=unit_rows, rank=min(rank, num_rows), seed=seed
        )
    return PreparedComplexity(settings, edges, targets.used, solution)
