"""Graph kernel complexity as a differentiable function of edge weights."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.graph.aggregation import Aggregation, check_aggregation, sparse_matrix
from lightning_regimes.graph.arc_cosine import arc_cosine, arc_cosine_diagonal, arc_cosine_gram
from lightning_regimes.graph.complexity_solver import (
    Normalize,
    choose_solver,
    default_normalize,
    default_ridge,
    scaled_features,
)
from lightning_regimes.graph.regularized_cholesky import regularized_cholesky
from lightning_regimes.graph.target_source import LabelSource, Targets, check_features, find_targets
from lightning_regimes.graph.undirected_edges import undirected_edges


def weighted_complexity(
    edge_index: Tensor,
    edge_weight: Tensor,
    x: Tensor | None,
    y: Tensor,
    train_mask: Tensor,
    *,
    labels: LabelSource = "train",
    lam: float | None = None,
    normalize: Normalize | None = None,
    aggregation: Aggregation = "mean",
    solver: str = "auto",
    rank: int = 300,
    allow_leak: bool = False,
    memory_limit: float = 4.0,
    seed: int = 0,
) -> Tensor:
    """Measure the complexity of a weighted graph; for the arguments see `graph_kernel_complexity`."""
    check_aggregation(aggregation)
    if x is None:
        raise ValueError("`edge_weight` needs features, got `x=None`")
    check_features(x, len(y))
    targets = find_targets(x, y, train_mask, labels, allow_leak=allow_leak)
    edges = undirected_edges(edge_index, len(y))
    if edge_weight.shape != edge_index.shape[1:] or not bool(edges.is_first.all()):
        raise ValueError(
            f"`edge_weight` is one number for each arc, none of which is repeated, got {tuple(edge_weight.shape)} for "
            f"{edge_index.shape[1]} arcs of which {int(edges.is_first.sum())} differ"
        )
    num_rows = len(targets.used)
    ridge = default_ridge(labels) if lam is None else lam
    chosen = choose_solver(
        solver,  # type: ignore[arg-type]
        num_nodes=len(y),
        num_rows=num_rows,
        device=x.device,
        memory_limit=memory_limit,
    )
    is_edge = edges.column_edge >= 0
    normalize = default_normalize(labels) if normalize is None else normalize
    x, unit_rows = scaled_features(x, normalize), normalize == "aggregated"
    rows = weighted_rows(edge_index[:, is_edge], edge_weight[is_edge], x, targets.used, aggregation)
    if chosen == "exact":
        factor = regularized_cholesky(arc_cosine_gram(rows, normalize=unit_rows), ridge)
        half = torch.linalg.solve_triangular(factor, targets.values, upper=False)
        result: Tensor = half.square().sum() * 2 / num_rows
        return result
    drawn = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed))[:rank]
    return low_rank_complexity(rows, targets, drawn.to(x.device), max(ridge, 1.0), normalize=unit_rows)


def weighted_rows(edge_index: Tensor, edge_weight: Tensor, x: Tensor, used: Tensor, aggregation: Aggregation) -> Tensor:
    """Aggregate features with edge weights and self-loops of weight 1, shape (used, features), in float64."""
    weight, terms = edge_weight.double(), x.double()
    source, target = edge_index
    degree = torch.ones(len(x), dtype=weight.dtype, device=x.device).index_add(0, target, weight)
    if aggregation == "gcn":
        terms = terms * degree.rsqrt()[:, None]
    place = torch.full((len(x),), -1, device=x.device)
    place[used] = torch.arange(len(used), device=x.device)
    # The gradient of the weights goes through a dense matrix of this shape.
    is_into = place[target] >= 0
    index = torch.stack([place[target[is_into]], source[is_into]])
    adjacency = sparse_matrix(index, weight[is_into], (len(used), len(x)))
    sums = torch.sparse.mm(adjacency, terms) + terms[used]
    degree = degree[used]
    factor = {"mean": degree.reciprocal(), "sum": torch.ones_like(degree), "gcn": degree.rsqrt()}[aggregation]
    result: Tensor = sums * factor[:, None]
    return result


def low_rank_complexity(rows: Tensor, targets: Targets, landmarks: Tensor, lam: float, *, normalize: bool) -> Tensor:
    """Return the complexity with the kernel of some landmark rows and the exact diagonal."""
    norm = rows.norm(dim=1)
    cross = arc_cosine(rows @ rows[landmarks].T, norm[:, None], norm[landmarks][None], normalize=normalize)
    square = cross[landmarks]
    jitter = 1e-8 * torch.eye(len(landmarks), dtype=rows.dtype, device=rows.device)
    factor = regularized_cholesky(
        arc_cosine_gram(rows[landmarks], normalize=normalize) + jitter * square.detach().abs().max(), 0.0
    )
    low_rank = torch.linalg.solve_triangular(factor, cross.T, upper=False).T
    rest = arc_cosine_diagonal(norm, normalize=normalize) - low_rank.square().sum(1)
    weighted = low_rank / (rest.clamp_min(0) + lam)[:, None]
    inner = torch.eye(len(landmarks), dtype=rows.dtype, device=rows.device) + weighted.T @ low_rank
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(inner), weighted.T @ targets.values, upper=False)
    alone = (targets.values.square().sum(1) / (rest.clamp_min(0) + lam)).sum()
    result: Tensor = (alone - half.square().sum()) * 2 / len(rows)
    return result
