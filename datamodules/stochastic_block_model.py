"""A random graph with classes and features: no files, no download."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from lightning_regimes.datamodules.graph_source import GraphSource, SourceGraph


@dataclass(frozen=True, kw_only=True)
class StochasticBlockModel(GraphSource):
    """The contextual stochastic block model: edges and features that both tell of the class.

    Classes are equally frequent. An edge joins a random node to one of its own class with probability ``homophily``, to
    one of another class otherwise. The features of class ``c`` are normal with variance 1 around ``separation · μ_c``,
    where ``μ_c`` are random unit vectors.

    Attributes:
        num_nodes: nodes, at least ``num_classes``.
        num_classes: classes, at least 2.
        num_features: features of a node.
        mean_degree: twice the number of edges over the number of nodes.
        homophily: share of edges within a class.
        separation: length of the class means, in standard deviations of a feature.
        seed: of the private generator.

    Raises:
        ValueError: a number is out of range.

    References:
        Y. Deshpande, A. Montanari, E. Mossel, S. Sen, "Contextual stochastic block models", NeurIPS 2018,
        arXiv:1807.09596.
    """

    num_nodes: int = 1500
    num_classes: int = 5
    num_features: int = 64
    mean_degree: float = 5.0
    homophily: float = 0.8
    separation: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"`num_classes` is at least 2, got {self.num_classes}")
        if self.num_nodes < 2 * self.num_classes:
            raise ValueError(f"`num_nodes` is at least twice `num_classes`, got {self.num_nodes}")
        if self.num_features < 1:
            raise ValueError(f"`num_features` is at least 1, got {self.num_features}")
        if not 0 <= self.homophily <= 1:
            raise ValueError(f"`homophily` lies in [0, 1], got {self.homophily}")
        # Pairs are drawn until there are enough different ones, which takes long where few are left.
        most = self.num_nodes / self.num_classes / 2
        if not 0 < self.mean_degree <= most:
            raise ValueError(f"`mean_degree` lies in (0, {most:g}] for these classes, got {self.mean_degree}")
        if not self.separation >= 0:
            raise ValueError(f"`separation` is not negative, got {self.separation}")

    def load(self) -> SourceGraph:
        """Return the graph, without a split."""
        generator = torch.Generator().manual_seed(self.seed)
        labels = torch.arange(self.num_nodes) % self.num_classes
        labels = labels[torch.randperm(self.num_nodes, generator=generator)]
        means = torch.randn(self.num_classes, self.num_features, generator=generator)
        means = self.separation * means / means.norm(dim=1, keepdim=True)
        features = means[labels] + torch.randn(self.num_nodes, self.num_features, generator=generator)
        pairs = self._pairs(labels, generator)
        edge_index = torch.cat([pairs, pairs.flip(0)], dim=1)
        return SourceGraph(Data(x=features, edge_index=edge_index, y=labels))

    def _pairs(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Return the edges (2, E), the smaller node first, none twice."""
        num_edges = round(self.num_nodes * self.mean_degree / 2)
        members = [torch.nonzero(labels == label).flatten() for label in range(self.num_classes)]
        codes = torch.empty(0, dtype=torch.int64)
        while codes.numel() < num_edges:
            first = torch.randint(self.num_nodes, (num_edges,), generator=generator)
            within = torch.rand(num_edges, generator=generator) < self.homophily
            shift = torch.randint(1, self.num_classes, (num_edges,), generator=generator)
            targets = torch.where(within, labels[first], (labels[first] + shift) % self.num_classes)
            second = torch.empty_like(first)
            for label, own in enumerate(members):
                chosen = targets == label
                second[chosen] = own[torch.randint(own.numel(), (int(chosen.sum()),), generator=generator)]
            low, high = torch.minimum(first, second), torch.maximum(first, second)
            fresh = (low * self.num_nodes + high)[low != high]
            codes = _first_occurrences(torch.cat([codes, fresh]))[:num_edges]
        return torch.stack([codes // self.num_nodes, codes % self.num_nodes])


def _first_occurrences(codes: Tensor) -> Tensor:
    """Return the different values in the order in which they first appear."""
    values, inverse = torch.unique(codes, return_inverse=True)
    first = torch.full_like(values, codes.numel())
    first.scatter_reduce_(0, inverse, torch.arange(codes.numel()), reduce="amin")
    return codes[first.sort().values]
