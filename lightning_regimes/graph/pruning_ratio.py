"""How many edges a sanitizer takes out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.graph.aggregation import aggregate
from lightning_regimes.graph.kernel_ridge import kernel_ridge
from lightning_regimes.graph.undirected_edges import UndirectedEdges, arcs_of, undirected_edges

#: The shares that are tried.
CANDIDATES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)

#: The ridge of the classifier that compares them.
VALIDATION_RIDGE = 0.1


@dataclass(frozen=True)
class RatioCurve:
    """Validation accuracy of a kernel classifier on the graph after pruning.

    Attributes:
        ratios: shares of edges taken out.
        accuracies: on the validation nodes.
    """

    ratios: tuple[float, ...]
    accuracies: tuple[float, ...]

    def best(self) -> float:
        """Return the smallest ratio with the highest accuracy."""
        return self.ratios[self.accuracies.index(max(self.accuracies))]


def pruned(num_edges: int, ratio: float, values: Tensor, *, protected: Tensor | None = None) -> Tensor:
    """Return which edges stay when the share with the highest values goes; ties go in the order of the list."""
    count = round(ratio * num_edges)
    ranked = values if protected is None else values.masked_fill(protected, -torch.inf)
    removable = num_edges if protected is None else int((~protected).sum())
    keep = torch.ones(num_edges, dtype=torch.bool, device=values.device)
    keep[ranked.argsort(descending=True, stable=True)[: min(count, removable)]] = False
    return keep


def kernel_accuracy(pairs: Tensor, x: Tensor | None, y: Tensor, train_mask: Tensor, val_mask: Tensor) -> float:
    """Return the validation accuracy of kernel ridge regression on features aggregated over two layers."""
    num_nodes = len(y)
    edges = undirected_edges(arcs_of(pairs), num_nodes)
    features = torch.eye(num_nodes, dtype=torch.float64, device=y.device) if x is None else x
    for _ in range(2):
        layer = aggregate(features, edges, "gcn", torch.float64)
        features = layer.sums * layer.scale[:, None]
    outputs = kernel_ridge(features, y, train_mask, lam=VALIDATION_RIDGE)
    return float((outputs.argmax(1) == y)[val_mask].double().mean())


def validation_curve(
    edges: UndirectedEdges,
    values: Tensor,
    x: Tensor | None,
    y: Tensor,
    train_mask: Tensor,
    val_mask: Tensor,
    *,
    min_ratio: float,
    max_ratio: float,
    protected: Tensor | None = None,
) -> RatioCurve:
    """Compare the candidate ratios between two bounds by the accuracy of a kernel classifier; nothing is trained."""
    ratios = tuple(sorted({min_ratio, *(ratio for ratio in CANDIDATES if min_ratio <= ratio <= max_ratio)}))
    accuracies = []
    for ratio in ratios:
        keep = pruned(edges.num_edges, ratio, values, protected=protected)
        accuracies.append(kernel_accuracy(edges.pairs[keep], x, y, train_mask, val_mask))
    return RatioCurve(ratios, tuple(accuracies))


def mixture_ratio(scores: Tensor, *, min_ratio: float, max_ratio: float) -> float:
    """Return the share of edges in the upper of two Gaussians, fitted to the logarithms of the sizes of scores."""
    from sklearn.mixture import GaussianMixture

    nonzero = scores.abs()[scores != 0].cpu()
    if len(nonzero) < 10:
        return min_ratio
    logarithms = nonzero.log()[:, None].numpy()
    mixture = GaussianMixture(2, random_state=0).fit(logarithms)
    is_upper = mixture.predict(logarithms) == mixture.means_.ravel().argmax()
    return min(max_ratio, max(min_ratio, float(is_upper.sum()) / len(scores)))
