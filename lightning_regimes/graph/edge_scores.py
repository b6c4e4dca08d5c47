"""How much each edge of a graph adds to the complexity of its labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_regimes.graph.aggregation import Aggregation, EdgeRemoval
from lightning_regimes.graph.complexity_solver import Normalize, Solver, prepare_complexity
from lightning_regimes.graph.kc_result import KCResult
from lightning_regimes.graph.target_source import LabelSource
from lightning_regimes.graph.weighted_complexity import weighted_complexity


def kc_scores(
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
) -> KCResult:
    r"""Score all edges by the kernel complexity that each of them adds to the graph.

    .. math::
        \mathrm{KC}(e) = \mathrm{GKC}(G) - \mathrm{GKC}(G \setminus e), \qquad
        \mathrm{GKC} = \frac2m \mathrm{tr}\, Y^\top (H + \lambda I)^{-1} Y

    H is the arc-cosine kernel of aggregated features, Y are centred labels of m rows, one-hot where they are known. A
    positive score says that the labels are simpler without the edge. This is a derivation in the manner of the papers
    below, whose own formulas are not public: the generalization bound of a wide two-layer network, put on the features
    that one layer of a graph network aggregates.

    Scores are exact up to rounding with ``solver="exact"``, where an edge costs one product of its changed rows with
    the inverse. The test labels have no part in them with ``labels`` ``"train"`` and ``"pseudo"``: of ``y`` only the
    entries in ``train_mask`` are read.

    Edges without an end among the rows in use score 0, and so do edges that change nothing. Self-loops are not scored.

    Args:
        edge_index: both arcs of each edge, shape (2, arcs); repetitions count once.
        x: features, shape (nodes, features). None stands for the identity matrix and allows ``labels="train"`` only.
        y: classes, shape (nodes,).
        train_mask: boolean, shape (nodes,).
        labels: ``"train"`` uses the training rows; ``"pseudo"`` all rows, and the outputs that are largest at
            `pseudo_labels`; ``"oracle"`` all rows with their true labels, which a defence cannot know.
        lam: the ridge; 0.01 with ``"train"``, otherwise 30. At least 1 with the Nyström solver.
        normalize: what is scaled to unit norm: ``"features"`` before they are aggregated, which leaves a row longer the
            more alike its terms are, or ``"aggregated"`` rows, for which ``"mean"`` and ``"sum"`` are the same. By
            default the second with ``"train"``, otherwise the first.
        aggregation: over the neighbourhood with the node itself: its mean, its sum, or the symmetric normalisation of
            graph convolutions, with which an edge changes the rows of its ends' neighbours too.
        solver: ``"exact"``, ``"nystrom"``, or ``"auto"``: the first of them that fits in rows and memory. With a ridge
            of 10 or more the second ranks edges much alike (Spearman 0.99 on Cora) in a quarter of the time.
        rank: number of landmarks of the Nyström solver.
        allow_leak: permits ``labels="oracle"``.
        memory_limit: for the exact solver, in GiB.
        seed: of the landmarks.

    Raises:
        ValueError: an argument is not as described, the graph is directed, or the kernel cannot be factorised.

    References:
        Jia et al., KCES: Training-Free Defense for Robust Graph Neural Networks via Kernel Complexity,
        arXiv:2506.11611, and arXiv:2609.09698; Arora et al., arXiv:1901.08584, theorem 5.1; Ki, Choi, Chung, Data
        Valuation without Training of a Model (ICLR 2023), whose score of an example this is for an edge.
    """
    prepared = prepare_complexity(
        edge_index,
        x,
        y,
        train_mask,
        labels=labels,
        lam=lam,
        normalize=normalize,
        aggregation=aggregation,
        solver=solver,
        rank=rank,
        allow_leak=allow_leak,
        memory_limit=memory_limit,
        seed=seed,
    )
    is_used = torch.zeros(len(y), dtype=torch.bool, device=edge_index.device)
    is_used[prepared.used] = True
    removal = EdgeRemoval(prepared.edges, aggregation, is_used, torch.float64)
    return KCResult(
        edges=prepared.edges.pairs,
        scores=prepared.solution.scores(removal),
        gkc=prepared.solution.value,
        settings=prepared.settings,
    )


def graph_kernel_complexity(
    edge_index: Tensor,
    x: Tensor | None,
    y: Tensor,
    train_mask: Tensor,
    *,
    edge_weight: Tensor | None = None,
    **settings: Any,
) -> Tensor:
    r"""Measure how hard the labels of a graph are to learn from its aggregated features.

    .. math:: \mathrm{GKC} = \frac2m \mathrm{tr}\, Y^\top (H + \lambda I)^{-1} Y

    Args:
        edge_index: both arcs of each edge, shape (2, arcs).
        x: features, shape (nodes, features).
        y: classes, shape (nodes,).
        train_mask: boolean, shape (nodes,).
        edge_weight: weights of the arcs, shape (arcs,); the result is differentiable in them. Self-loops weigh 1.
        **settings: as for `kc_scores`.

    Returns:
        A number without shape, in float64.

    Raises:
        ValueError: as for `kc_scores`, or weights come without features or with repeated arcs.
    """
    if edge_weight is not None:
        return weighted_complexity(edge_index, edge_weight, x, y, train_mask, **settings)
    prepared = prepare_complexity(edge_index, x, y, train_mask, **settings)
    return torch.tensor(prepared.solution.value, dtype=torch.float64, device=edge_index.device)
