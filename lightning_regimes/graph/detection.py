"""How well doubted edges are those that an attack added."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.graph.undirected_edges import undirected_edges


@dataclass(frozen=True)
class Detection:
    """Comparison with the clean graph.

    Attributes:
        auc: the chance that an added edge is doubted more than one of the clean graph, ties half; NaN without either.
        precision: share of the pruned edges that were added; NaN if none was pruned.
        recall: share of the added edges that were pruned; NaN if none was added.
        num_adversarial: number of added edges.
    """

    auc: float
    precision: float
    recall: float
    num_adversarial: int


def detect(pairs: Tensor, values: Tensor, keep: Tensor, clean_edge_index: Tensor, num_nodes: int) -> Detection:
    """Compare doubted and pruned edges with those that the clean graph does not have."""
    clean = undirected_edges(clean_edge_index.to(pairs.device), num_nodes).pairs
    is_added = ~torch.isin(pairs[:, 0] * num_nodes + pairs[:, 1], clean[:, 0] * num_nodes + clean[:, 1])
    is_pruned = ~keep
    hits = int((is_added & is_pruned).sum())
    num_added, num_pruned = int(is_added.sum()), int(is_pruned.sum())
    return Detection(
        auc=area_under_curve(values, is_added),
        precision=hits / num_pruned if num_pruned else float("nan"),
        recall=hits / num_added if num_added else float("nan"),
        num_adversarial=num_added,
    )


def area_under_curve(values: Tensor, is_positive: Tensor) -> float:
    """Return the area under the receiver operating characteristic, by the Mann-Whitney statistic."""
    from lightning_regimes.graph.edge_suspicion import fractional_rank

    num_positive = int(is_positive.sum())
    num_negative = len(values) - num_positive
    if not num_positive or not num_negative:
        return float("nan")
    places = fractional_rank(values) * len(values)
    total = float(places[is_positive].sum()) - num_positive * (num_positive + 1) / 2
    return total / (num_positive * num_negative)
