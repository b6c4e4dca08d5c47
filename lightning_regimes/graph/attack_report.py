"""A graph after an attack, and which edges it changed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from lightning_regimes.graph.edge_mask import edges_of, node_count
from lightning_regimes.graph.undirected_edges import arcs_of


@dataclass(frozen=True, eq=False)
class AttackReport:
    """What an attack did.

    Attributes:
        name: of the attack.
        rate: the share of the edges that it was allowed to change.
        added: ends a < b of new edges, shape (edges, 2).
        removed: those of edges that are gone.
    """

    name: str
    rate: float
    added: Tensor
    removed: Tensor


def check_rate(rate: float) -> None:
    """Refuse a share of the edges that is none."""
    if not 0 < rate <= 1:
        raise ValueError(f"`rate` is above 0 and at most 1, got {rate}")


def perturbation_budget(data: Data, rate: float) -> int:
    """Return how many edges an attack may change."""
    return round(rate * edges_of(data).num_edges)


def with_edges(data: Data, pairs: Tensor, *, name: str, rate: float) -> Data:
    """Return the graph with other edges; self-loops stay, attributes of edges go."""
    before = edges_of(data)
    count = node_count(data)
    pairs = torch.stack([pairs.min(1).values, pairs.max(1).values], dim=1).unique(dim=0)
    old, new = (edges[:, 0] * count + edges[:, 1] for edges in (before.pairs, pairs))
    assert data.edge_index is not None
    loops = data.edge_index[:, (before.column_edge < 0) & before.is_first]
    result = data.clone()
    for attribute in data.keys():  # noqa: SIM118
        if attribute != "edge_index" and data.is_edge_attr(attribute):
            del result[attribute]
    result.edge_index = torch.cat([arcs_of(pairs), loops], dim=1)
    result.attack = AttackReport(name, rate, pairs[~torch.isin(new, old)], before.pairs[~torch.isin(old, new)])
    return result


def flipped(data: Data, flips: Tensor, *, name: str, rate: float) -> Data:
    """Return the graph with the edges of some pairs turned on or off."""
    before = edges_of(data).pairs
    count = node_count(data)
    flips = torch.stack([flips.min(1).values, flips.max(1).values], dim=1)
    old, changed = before[:, 0] * count + before[:, 1], flips[:, 0] * count + flips[:, 1]
    stay, new = before[~torch.isin(old, changed)], flips[~torch.isin(changed, old)]
    return with_edges(data, torch.cat([stay, new]), name=name, rate=rate)
