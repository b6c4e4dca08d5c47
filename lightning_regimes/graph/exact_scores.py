"""The exact effect of each edge on graph kernel complexity, by low-rank updates of one inverse."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.graph.aggregation import AggregatedFeatures, EdgeRemoval, RemovedEdges
from lightning_regimes.graph.arc_cosine import arc_cosine, arc_cosine_diagonal
from lightning_regimes.graph.regularized_cholesky import regularized_cholesky
from lightning_regimes.graph.row_products import TermProducts, products, select_rows

#: Entries of the largest array in one step.
STEP_ENTRIES = 4_000_000


class ExactComplexity:
    r"""The complexity of a graph and of the graph without each edge.

    With the kernel H of the used rows, :math:`K = (H + \lambda I)^{-1}` and :math:`\alpha = K Y`, taking out an edge
    replaces the rows S of H by those that differ by D: :math:`H' = H + U C U^\top`, :math:`U = [E_S, D^\top]`. Then

    .. math::
        \mathrm{tr}\, Y^\top (K - K') Y = \mathrm{tr}\, V^\top M^{-1} V, \qquad V = U^\top \alpha, \qquad
        M = C^{-1} + U^\top K U = \begin{bmatrix} K_{SS} & I + K_{S \cdot} D^\top \\
        I + D K_{\cdot S} & D_{SS} + D K D^\top \end{bmatrix}

    The new rows are combinations of old ones, so their kernel needs no features. The only heavy term is D K.

    Args:
        features: aggregated features of the graph.
        used: the nodes whose rows count, shape (rows,).
        targets: their centred targets Y, shape (rows, classes).
        lam: the ridge.
        normalize: whether rows are scaled to unit norm.
    """

    def __init__(
        self, features: AggregatedFeatures, used: Tensor, targets: Tensor, lam: float, *, normalize: bool
    ) -> None:
        self.normalize = normalize
        self.scale = features.scale[used]
        self.near = TermProducts(features)
        used_sums = select_rows(features.sums, used)
        self.sum_products = products(used_sums, used_sums)
        self.term_products = products(features.terms, used_sums)
        self.norm = self.near.norm()[used]
        gram = self.sum_products * self.scale[:, None] * self.scale
        self.kernel = arc_cosine(gram, self.norm[:, None], self.norm[None], normalize=normalize)
        self.kernel.diagonal().copy_(arc_cosine_diagonal(self.norm, normalize=normalize))
        factor = regularized_cholesky(self.kernel, lam)
        self.inverse = torch.cholesky_inverse(factor)
        self.dual = torch.cholesky_solve(targets, factor)
        self.value = float((targets * self.dual).sum()) * 2 / len(used)
        self.place = torch.full((len(features.scale),), -1, device=used.device)
        self.place[used] = torch.arange(len(used), device=used.device)

    def scores(self, removal: EdgeRemoval) -> Tensor:
        """Return by how much the complexity falls when each edge goes, shape (edges,)."""
        num_rows = removal.num_rows()
        scores = torch.zeros(len(num_rows), dtype=self.kernel.dtype, device=self.kernel.device)
        touching = num_rows.nonzero().squeeze(1)
        # Edges with like numbers of rows go together: few entries are padding.
        order = touching[num_rows[touching].argsort(stable=True)]
        done = 0
        while done < len(order):
            widest = int(num_rows[order[done]])
            step = max(1, STEP_ENTRIES // (len(self.kernel) * max(2, widest)))
            step = step if removal.aggregation != "gcn" else min(step, 512)
            index = order[done : done + step]
            scores[index] = self._scores(removal.rows(index))
            done += step
        return scores * 2 / len(self.kernel)

    def _scores(self, removed: RemovedEdges) -> Tensor:
        size, count = len(self.kernel), removed.node.shape[1]
        place = torch.where(removed.is_row, self.place[removed.node], 0)
        is_row = removed.is_row.to(self.kernel.dtype)
        change, inside = self._change(removed, place)
        change = change * is_row[:, :, None]
        inside = inside * is_row[:, :, None] * is_row[:, None]
        product = (change.reshape(-1, size) @ self.inverse).reshape(change.shape)
        product_inside = product.gather(2, place[:, None].expand(-1, count, -1)) * is_row[:, None]
        inverse_inside = self.inverse[place[:, :, None], place[:, None]] * is_row[:, :, None] * is_row[:, None]
        identity = torch.eye(count, dtype=is_row.dtype, device=is_row.device)
        upper = torch.cat([inverse_inside, identity + product_inside.mT], dim=2)
        lower = torch.cat([identity + product_inside, inside + product @ change.mT], dim=2)
        effects = torch.cat([self.dual[place] * is_row[:, :, None], change @ self.dual], dim=1)
        solved = torch.linalg.solve(torch.cat([upper, lower], dim=1), effects)
        result: Tensor = (effects * solved).sum((1, 2))
        return result

    def _change(self, removed: RemovedEdges, place: Tensor) -> tuple[Tensor, Tensor]:
        """Return the changed rows of the kernel less the old ones, and their part in the changed columns."""
        a, b = removed.ends.T
        p, q, scale = removed.first[:, :, None], removed.second[:, :, None], removed.scale[:, :, None]
        norm = self.near.changed_norm(removed)
        from_a, from_b = self.term_products[a], self.term_products[b]
        old_rows = self.kernel[place]
        # One expression at a time: these arrays are the largest.
        inner = self.sum_products[place]
        inner += p * from_a[:, None]
        inner += q * from_b[:, None]

        at_rows = place[:, None].expand(-1, place.shape[1], -1)
        a_rows, b_rows = from_a.gather(1, place)[:, None], from_b.gather(1, place)[:, None]
        a_square, b_square = self.near.term_square[a][:, None, None], self.near.term_square[b][:, None, None]
        cross = self.near.products_of_ends(removed)[:, None, None]
        inner_inside = (
            inner.gather(2, at_rows)
            + p.mT * (a_rows.mT + p * a_square + q * cross)
            + q.mT * (b_rows.mT + p * cross + q * b_square)
        )
        new_inside = arc_cosine(
            inner_inside * scale * scale.mT, norm[:, :, None], norm[:, None], normalize=self.normalize
        )
        new_inside.diagonal(dim1=1, dim2=2).copy_(arc_cosine_diagonal(norm, normalize=self.normalize))
        inside = new_inside - old_rows.gather(2, at_rows)

        inner *= scale
        inner *= self.scale
        change = arc_cosine(inner, norm[:, :, None], self.norm, normalize=self.normalize)
        change -= old_rows
        # Padding writes into a column beside the others.
        wide = torch.cat([change, change.new_zeros(*change.shape[:2], 1)], dim=2)
        column = torch.where(removed.is_row, place, len(self.kernel))[:, None].expand_as(at_rows)
        return wide.scatter(2, column, inside)[..., :-1], inside
