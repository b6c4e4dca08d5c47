"""How well doubted edges are those that an attack added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_regimes.graph.undirected_edges import undirected_edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Detection:
    """Comparison with the clean graph.

    Attributes:
        auc: the chance that an added edge is doubted more than one of the clean graph, ties half; NaN without either.
        precision: share of the pruned edges that were added; NaN if none was pruned.
        recall: share of the added edges that were pruned; NaN if none was added.
        num_adversarial: number of added edges.
        suspicion: of all edges, shape (edges,).
        is_added: which of them the clean graph does not have.
    """

    auc: float
    precision: float
    recall: float
    num_adversarial: int
    suspicion: Tensor = field(repr=False, compare=False)
    is_added: Tensor = field(repr=False, compare=False)

    def figure(self) -> Figure:
        """Draw the suspicion of both kinds of edges, and the shares of them that go as more and more are pruned."""
        from lightning_regimes.graph.detection_figure import draw_detection

        return draw_detection(self)


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
        suspicion=values,
        is_added=is_added,
    )


def operating_curve(values: Tensor, is_positive: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shares of the negatives and of the positives above each threshold from high to low, from (0, 0) on."""
    ordered, order = values.sort(descending=True, stable=True)
    positive = is_positive[order]
    # Equal values pass a threshold together.
    is_last = torch.cat([ordered[1:] != ordered[:-1], torch.ones_like(positive[:1])])
    shares = []
    for kind in (~positive, positive):
        counts = kind.cumsum(0)[is_last].double() / kind.sum()
        shares.append(torch.cat([counts.new_zeros(1), counts]))
    return shares[0], shares[1]


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
