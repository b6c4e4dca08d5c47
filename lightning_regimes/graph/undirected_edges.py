"""The undirected edges of a graph, each once, and the columns of ``edge_index`` that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class UndirectedEdges:
    """The edges of an undirected graph, sorted, without self-loops and repetitions.

    Attributes:
        pairs: the ends a < b of the edges, shape (edges, 2).
        column_edge: for each column of ``edge_index`` the row of ``pairs``, and -1 for a self-loop.
        is_first: whether a column of ``edge_index`` is the first that holds this arc.
        num_nodes: number of nodes.
    """

    pairs: Tensor
    column_edge: Tensor
    is_first: Tensor
    num_nodes: int

    @property
    def num_edges(self) -> int:
        """Number of undirected edges without self-loops."""
        return self.pairs.shape[0]

    def columns(self, keep: Tensor) -> Tensor:
        """Return which columns of ``edge_index`` stay with the edges of a mask; self-loops and first arcs stay."""
        kept = torch.ones_like(self.is_first)
        is_edge = self.column_edge >= 0
        kept[is_edge] = keep[self.column_edge[is_edge]]
        return kept & self.is_first


def undirected_edges(edge_index: Tensor, num_nodes: int) -> UndirectedEdges:
    """Find the undirected edges of a graph that holds both arcs of each.

    Args:
        edge_index: the arcs, shape (2, columns), integers.
        num_nodes: number of nodes.

    Raises:
        ValueError: the shape is another, an index is out of range, or one arc of an edge is missing.
    """
    if edge_index.ndim != 2 or edge_index.shape[0] != 2 or edge_index.is_floating_point():
        raise ValueError(f"`edge_index` holds integers of shape (2, arcs), got {tuple(edge_index.shape)}")
    if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < num_nodes:
        raise ValueError(f"`edge_index` names nodes from 0 to {num_nodes - 1}, got {int(edge_index.max())} or below 0")
    source, target = edge_index.long()
    arcs = source * num_nodes + target
    unique_arcs, place = arcs.unique(return_inverse=True)
    columns = torch.arange(arcs.numel(), device=arcs.device)
    first = torch.full_like(unique_arcs, arcs.numel()).scatter_reduce(0, place, columns, "amin")
    is_first = torch.zeros_like(arcs, dtype=torch.bool)
    is_first[first] = True

    is_loop = source == target
    reverse = target * num_nodes + source
    missing = int((~torch.isin(reverse, unique_arcs)).sum())
    if missing:
        raise ValueError(
            f"`edge_index` is of an undirected graph and holds both arcs of each edge, got {missing} arcs alone; "
            'symmetrize it, or use `directed="symmetrize"` where a transform takes it'
        )
    key = torch.minimum(source, target) * num_nodes + torch.maximum(source, target)
    column_edge = torch.full_like(key, -1)
    unique_keys, inverse = key[~is_loop].unique(return_inverse=True)
    column_edge[~is_loop] = inverse
    pairs = torch.stack([unique_keys // num_nodes, unique_keys % num_nodes], dim=1)
    return UndirectedEdges(pairs, column_edge, is_first, num_nodes)


def arcs_of(pairs: Tensor) -> Tensor:
    """Return both arcs of each edge as an ``edge_index``, shape (2, 2 edges)."""
    return torch.cat([pairs.T, pairs.T.flip(0)], dim=1)
