"""Parts of a graph around seed nodes, so that a step of training needs no more than these."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data


class NeighborSampler:
    """Makes the batch of some seed nodes: these, and layer by layer neighbours from which messages reach them.

    Each node that enters brings up to so many of its incoming edges, drawn without replacement. A network with as many
    layers computes the seeds' outputs from the batch; with all neighbours, exactly those of the whole graph where the
    convolution looks at incoming edges only (GraphSAGE, GAT, GIN; the GCN normalizes also by degrees at the rim).

    Args:
        data: the graph; every attribute with a row for each node or edge is sampled with it.
        num_neighbors: most incoming edges of a node in each layer, −1 for all.

    Raises:
        ValueError: a number is neither −1 nor positive, or there is none.
    """

    def __init__(self, data: Data, num_neighbors: Sequence[int]) -> None:
        if not num_neighbors or any(number != -1 and number < 1 for number in num_neighbors):
            raise ValueError(f"`num_neighbors` holds positive numbers or -1, got {list(num_neighbors)}")
        self.num_neighbors = tuple(num_neighbors)
        self._data = data
        source, target = data.edge_index
        self._order = torch.argsort(target, stable=True)
        self._source = source[self._order]
        counts = torch.bincount(target, minlength=int(data.num_nodes))
        self._offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])

    def __call__(self, seeds: Sequence[int] | Tensor) -> Data:
        """Return the part of the graph around the seeds, which come first; ``batch_size`` is their number."""
        seeds = torch.as_tensor(seeds, dtype=torch.int64)
        nodes, frontier = seeds, seeds
        is_known = torch.zeros(self._offsets.numel() - 1, dtype=torch.bool)
        is_known[seeds] = True
        chosen = []
        for number in self.num_neighbors:
            positions = self._incoming(frontier, number)
            chosen.append(positions)
            reached = torch.unique(self._source[positions])
            frontier = reached[~is_known[reached]]
            is_known[frontier] = True
            nodes = torch.cat([nodes, frontier])
        edges = self._order[torch.cat(chosen)]
        return self._part(nodes, edges, seeds.numel())

    def _incoming(self, nodes: Tensor, number: int) -> Tensor:
        """Return positions, among the edges sorted by target, of up to ``number`` edges into each node."""
        start, count = self._offsets[nodes], self._offsets[nodes + 1] - self._offsets[nodes]
        total = int(count.sum())
        owner = torch.repeat_interleave(torch.arange(nodes.numel()), count)
        rank = torch.arange(total) - torch.repeat_interleave(count.cumsum(0) - count, count)
        positions = start[owner] + rank
        if number == -1:
            return positions
        # A random order within each node, of which the first are taken.
        shuffled = torch.argsort(owner + torch.rand(total, dtype=torch.float64))
        return positions[shuffled][rank < number]

    def _part(self, nodes: Tensor, edges: Tensor, num_seeds: int) -> Data:
        local = torch.empty(self._offsets.numel() - 1, dtype=torch.int64)
        local[nodes] = torch.arange(nodes.numel())
        part = Data()
        for name, value in self._data.items():
            if name == "edge_index":
                part[name] = local[value[:, edges]]
            elif isinstance(value, Tensor) and self._data.is_node_attr(name):
                part[name] = value[nodes]
            elif isinstance(value, Tensor) and self._data.is_edge_attr(name):
                part[name] = value[edges]
        part.batch_size = num_seeds
        return part
