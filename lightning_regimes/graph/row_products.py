"""Inner products between rows of aggregated features, dense or sparse."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.graph.aggregation import AggregatedFeatures, RemovedEdges
from lightning_regimes.graph.arc_cosine import rounded_norm

#: Rows of a sparse matrix that are dense at the same time.
DENSE_ROWS = 256


def select_rows(matrix: Tensor, index: Tensor) -> Tensor:
    """Return rows of a dense matrix, or of a sparse one."""
    return matrix.index_select(0, index) if matrix.is_sparse else matrix[index]


def products(matrix: Tensor, others: Tensor) -> Tensor:
    """Return all inner products of the rows of two matrices of the same kind, dense, shape (rows, others)."""
    if matrix.is_sparse:
        # A product of two sparse matrices goes through CSR, which warns.
        result = matrix.new_zeros(len(matrix), len(others), layout=torch.strided)
        for block in torch.arange(len(others), device=others.device).split(DENSE_ROWS):
            result[:, block] = torch.sparse.mm(matrix, others.index_select(0, block).to_dense().T)
        return result
    return matrix @ others.T


def paired_products(matrix: Tensor, others: Tensor, index: Tensor, other_index: Tensor) -> Tensor:
    """Return the inner products of rows with rows at the same place of two lists of any equal shape."""
    flat, other_flat = index.reshape(-1), other_index.reshape(-1)
    if matrix.is_sparse:
        product = (select_rows(matrix, flat) * select_rows(others, other_flat)).coalesce()
        sums = torch.zeros(len(flat), dtype=matrix.dtype, device=matrix.device)
        return sums.index_add(0, product.indices()[0], product.values()).reshape(index.shape)
    result: Tensor = torch.linalg.vecdot(matrix[flat], others[other_flat]).reshape(index.shape)
    return result


class TermProducts:
    """Inner products of the terms and sums of nodes near to each other, from the rows themselves."""

    def __init__(self, features: AggregatedFeatures) -> None:
        self.features = features
        nodes = torch.arange(len(features.scale), device=features.scale.device)
        self.term_square = paired_products(features.terms, features.terms, nodes, nodes)
        self.sum_square = paired_products(features.sums, features.sums, nodes, nodes)

    def norm(self) -> Tensor:
        """Return the norms of all aggregated rows, shape (nodes,)."""
        return self.sum_square.sqrt() * self.features.scale

    def changed_norm(self, removed: RemovedEdges) -> Tensor:
        """Return the norms of the changed rows, shape (edges, rows)."""
        a, b = (end.expand_as(removed.node) for end in removed.ends.T[:, :, None])
        p, q = removed.first, removed.second
        features = self.features
        cross = self.products_of_ends(removed)[:, None]
        sum_square, a_square, b_square = self.sum_square[removed.node], self.term_square[a], self.term_square[b]
        square = (
            sum_square
            + 2 * p * paired_products(features.sums, features.terms, removed.node, a)
            + 2 * q * paired_products(features.sums, features.terms, removed.node, b)
            + p.square() * a_square
            + q.square() * b_square
            + 2 * p * q * cross
        )
        return rounded_norm(square, sum_square + p.square() * a_square + q.square() * b_square) * removed.scale

    def products_of_ends(self, removed: RemovedEdges) -> Tensor:
        """Return the inner products of the terms of both ends, shape (edges,)."""
        terms = self.features.terms
        return paired_products(terms, terms, removed.ends[:, 0], removed.ends[:, 1])
