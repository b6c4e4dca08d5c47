"""Attacks that look at no model."""

from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from lightning_regimes.graph.attack_report import check_rate, flipped, perturbation_budget
from lightning_regimes.graph.edge_mask import edges_of, node_count


def new_pairs(data: Data, count: int, *, inter_class: bool, generator: torch.Generator) -> Tensor:
    """Draw pairs without an edge, between classes only if asked for, shape (count, 2)."""
    existing, nodes, y = edges_of(data).pairs.cpu(), node_count(data), data.y.cpu()
    taken = existing[:, 0] * nodes + existing[:, 1]
    found = torch.empty(0, dtype=torch.long)
    for _ in range(100):
        if len(found) >= count:
            break
        first, second = torch.randint(nodes, (2, 2 * count + 16), generator=generator)
        is_new = first != second
        if inter_class:
            is_new &= y[first] != y[second]
        key = torch.minimum(first, second) * nodes + torch.maximum(first, second)
        key = key[is_new & ~torch.isin(key, torch.cat([taken, found]))].unique()
        found = torch.cat([found, key[torch.randperm(len(key), generator=generator)]])
    if len(found) < count:
        raise ValueError(f"`rate` asks for {count} new edges, the graph has room for {len(found)} that were found")
    return torch.stack([found[:count] // nodes, found[:count] % nodes], dim=1).to(existing.device)


class RandomEdges(BaseTransform):
    """Add edges at random.

    Args:
        rate: number of new edges as a share of the edges.
        inter_class: only between nodes of different classes, which reads all labels.
        seed: of the draw.
    """

    def __init__(self, rate: float, *, inter_class: bool = False, seed: int = 0) -> None:
        check_rate(rate)
        self.rate, self.inter_class, self.seed = rate, inter_class, seed

    def forward(self, data: Data) -> Data:
        generator = torch.Generator().manual_seed(self.seed)
        count = perturbation_budget(data, self.rate)
        pairs = new_pairs(data, count, inter_class=self.inter_class, generator=generator)
        return flipped(data, pairs.to(data.edge_index.device), name="random", rate=self.rate)


class DICE(BaseTransform):
    """Disconnect internally, connect externally: half of the changes take edges out of classes, half join classes.

    It reads all labels.

    Args:
        rate: number of changes as a share of the edges.
        seed: of the draw.

    References:
        Waniek et al., Hiding Individuals and Communities in a Social Network, arXiv:1608.00375.
    """

    def __init__(self, rate: float, *, seed: int = 0) -> None:
        check_rate(rate)
        self.rate, self.seed = rate, seed

    def forward(self, data: Data) -> Data:
        generator = torch.Generator().manual_seed(self.seed)
        budget = perturbation_budget(data, self.rate)
        pairs = edges_of(data).pairs
        inside = pairs[data.y[pairs[:, 0]] == data.y[pairs[:, 1]]]
        drawn = torch.randperm(len(inside), generator=generator)[: budget // 2].to(pairs.device)
        added = new_pairs(data, budget - len(drawn), inter_class=True, generator=generator).to(pairs.device)
        return flipped(data, torch.cat([inside[drawn], added]), name="dice", rate=self.rate)
