r"""Aggregated features of a graph, and what one removed edge does to them.

With neighbourhoods closed by a self-loop, :math:`N(i) \cup \{i\}`, of sizes :math:`d_i`, every aggregation is

.. math:: z_i = s_i T_i, \qquad T_i = \sum_{j \in N(i) \cup \{i\}} u_j

- ``"mean"``: :math:`u_j = x_j` and :math:`s_i = 1 / d_i`.
- ``"sum"``: :math:`u_j = x_j` and :math:`s_i = 1`.
- ``"gcn"``: :math:`u_j = x_j / \sqrt{d_j}` and :math:`s_i = 1 / \sqrt{d_i}`, the symmetric normalisation.

Without the edge {a, b} the changed rows are :math:`z_i' = s_i' (T_i + p\, u_a + q\, u_b)`: those of a and b, and with
``"gcn"`` those of their neighbours too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.graph.undirected_edges import UndirectedEdges, arcs_of

Aggregation = Literal["mean", "sum", "gcn"]


@dataclass(frozen=True, eq=False)
class AggregatedFeatures:
    """Sums over closed neighbourhoods.

    Attributes:
        terms: the terms :math:`u`, shape (nodes, features), dense or sparse COO.
        sums: the sums :math:`T`, likewise.
        scale: the factors :math:`s`, shape (nodes,).
        degree: sizes of the closed neighbourhoods, shape (nodes,).
    """

    terms: Tensor
    sums: Tensor
    scale: Tensor
    degree: Tensor


@dataclass(frozen=True, eq=False)
class RemovedEdges:
    r"""The rows that change when one edge goes, for some edges at once; padded to the largest number of rows.

    Attributes:
        ends: a and b, shape (edges, 2).
        node: the changed nodes i, shape (edges, rows).
        is_row: whether an entry is a row and no padding.
        scale: the factors :math:`s'`.
        first: the factors p of :math:`u_a`.
        second: the factors q of :math:`u_b`.
    """

    ends: Tensor
    node: Tensor
    is_row: Tensor
    scale: Tensor
    first: Tensor
    second: Tensor


def check_aggregation(aggregation: str) -> None:
    """Refuse an unknown aggregation."""
    if aggregation not in get_args(Aggregation):
        raise ValueError(f"`aggregation` is one of {', '.join(get_args(Aggregation))}, got {aggregation!r}")


def closed_degree(edges: UndirectedEdges) -> Tensor:
    """Return the sizes of the neighbourhoods with the node itself, shape (nodes,)."""
    return 1 + torch.bincount(edges.pairs.flatten(), minlength=edges.num_nodes)


def sparse_matrix(index: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a sparse COO matrix, with entries at the same place added, of indices that are known to be in range."""
    # Not to say whether they are to be checked gives a warning.
    return torch.sparse_coo_tensor(index, values, shape, check_invariants=False).coalesce()


def aggregate(
    x: Tensor | None, edges: UndirectedEdges, aggregation: Aggregation, dtype: torch.dtype
) -> AggregatedFeatures:
    """Sum features over closed neighbourhoods.

    Args:
        x: features, shape (nodes, features), or None for rows of the identity matrix, which stay sparse.
        edges: the graph.
        aggregation: how terms and sums are scaled.
        dtype: of the result.
    """
    degree = closed_degree(edges)
    device = degree.device
    term_scale = (
        degree.to(dtype).rsqrt() if aggregation == "gcn" else torch.ones(len(degree), dtype=dtype, device=device)
    )
    scale = {"mean": degree.to(dtype).reciprocal(), "sum": torch.ones_like(term_scale), "gcn": term_scale}[aggregation]
    nodes = torch.arange(edges.num_nodes, device=device)
    arcs = torch.cat([arcs_of(edges.pairs), nodes.expand(2, -1)], dim=1)
    shape = (edges.num_nodes, edges.num_nodes)
    if x is None:
        terms = sparse_matrix(nodes.expand(2, -1), term_scale, shape)
        sums = sparse_matrix(arcs, term_scale[arcs[1]], shape)
        return AggregatedFeatures(terms, sums, scale, degree)
    terms = x.to(dtype) * term_scale[:, None]
    adjacency = sparse_matrix(arcs, torch.ones(arcs.shape[1], dtype=dtype, device=device), shape)
    return AggregatedFeatures(terms, torch.sparse.mm(adjacency, terms), scale, degree)


class EdgeRemoval:
    """Says which rows change, and how, for every edge of a graph.

    Args:
        edges: the graph.
        aggregation: how features are aggregated.
        is_used: the nodes whose rows count, shape (nodes,).
        dtype: of the factors.
    """

    def __init__(self, edges: UndirectedEdges, aggregation: Aggregation, is_used: Tensor, dtype: torch.dtype) -> None:
        self.pairs = edges.pairs
        self.aggregation = aggregation
        self.is_used = is_used
        self.degree = closed_degree(edges).to(dtype)
        self.neighbours: tuple[Tensor, ...] = ()
        if aggregation == "gcn":
            arcs = arcs_of(edges.pairs)
            order = arcs[0].argsort(stable=True)
            counts = torch.bincount(arcs[0], minlength=edges.num_nodes)
            self.neighbours = arcs[1][order].split(counts.tolist())

    def num_rows(self) -> Tensor:
        """Return the number of rows in use that each edge changes, shape (edges,)."""
        if self.aggregation != "gcn":
            return self.is_used[self.pairs].sum(1)
        of_node = torch.stack([self.is_used[nodes].sum() for nodes in self.neighbours])
        # A common neighbour counts twice: the number is an upper bound.
        return of_node[self.pairs].sum(1)

    def rows(self, index: Tensor) -> RemovedEdges:
        """Return the changed rows of the edges at some places of the list."""
        ends = self.pairs[index]
        return self._spread(ends) if self.aggregation == "gcn" else self._local(ends)

    def _local(self, ends: Tensor) -> RemovedEdges:
        degree = self.degree[ends]
        scale = 1 / (degree - 1) if self.aggregation == "mean" else torch.ones_like(degree)
        minus_other = degree.new_tensor([[0.0, -1.0], [-1.0, 0.0]])
        first, second = (factor.expand(len(ends), 2) for factor in minus_other)
        return RemovedEdges(ends, ends, self.is_used[ends], scale, first, second)

    def _spread(self, ends: Tensor) -> RemovedEdges:
        groups = []
        for a, b in ends.tolist():
            nodes = torch.cat([self.neighbours[a], self.neighbours[b]]).unique()
            groups.append(nodes[self.is_used[nodes]])
        rows = max(1, max((len(group) for group in groups), default=0))
        node = ends.new_zeros(len(ends), rows)
        is_row = torch.zeros_like(node, dtype=torch.bool)
        for place, group in enumerate(groups):
            node[place, : len(group)] = group
            is_row[place, : len(group)] = True

        a, b = ends[:, :1], ends[:, 1:]
        # A term is divided by the root of the smaller degree: it grows by the factor that `growth` is above 1.
        growth = (self.degree / (self.degree - 1).clamp_min(1)).sqrt() - 1
        is_a, is_b = node == a, node == b
        near_a = self._is_neighbour(ends[:, 0], node) | is_a
        near_b = self._is_neighbour(ends[:, 1], node) | is_b
        first = torch.where(is_b, -1.0, torch.where(near_a, growth[a], 0.0))
        second = torch.where(is_a, -1.0, torch.where(near_b, growth[b], 0.0))
        scale = (self.degree[node] - (is_a | is_b).to(self.degree.dtype)).rsqrt()
        return RemovedEdges(ends, node, is_row, scale, first, second)

    def _is_neighbour(self, ends: Tensor, node: Tensor) -> Tensor:
        return torch.stack(
            [torch.isin(row, self.neighbours[end]) for end, row in zip(ends.tolist(), node, strict=True)]
        )
