"""The effect of each edge on graph kernel complexity from a low-rank kernel with the exact diagonal."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.graph.aggregation import AggregatedFeatures, EdgeRemoval, RemovedEdges
from lightning_regimes.graph.arc_cosine import arc_cosine, arc_cosine_diagonal
from lightning_regimes.graph.exact_scores import STEP_ENTRIES
from lightning_regimes.graph.row_products import TermProducts, products, select_rows

#: Directions of the landmarks' kernel with a smaller share of its largest eigenvalue are left out.
SMALLEST_EIGENVALUE = 1e-10


class NystromComplexity:
    r"""The complexity of a graph and of the graph without each edge, for many rows.

    .. math::
        H \approx P P^\top + \mathrm{diag}(H_{ii} - |p_i|^2), \qquad P = H_{\cdot W} H_{WW}^{-1/2}

    W are landmark rows drawn at random. With :math:`\Lambda_i = H_{ii} - |p_i|^2 + \lambda`,
    :math:`B = I + P^\top \Lambda^{-1} P` and :math:`b = P^\top \Lambda^{-1} Y`,

    .. math:: \mathrm{tr}\, Y^\top (H + \lambda I)^{-1} Y = \sum_i |y_i|^2 / \Lambda_i - \mathrm{tr}\, b^\top B^{-1} b

    An edge changes a few rows of P, which is an update of B and b of twice as low a rank. Memory grows with the number
    of nodes times the rank, time with the number of edges times its square.

    Args:
        features: aggregated features of the graph.
        used: the nodes whose rows count, shape (rows,).
        targets: their centred targets Y, shape (rows, classes).
        lam: the ridge.
        normalize: whether rows are scaled to unit norm.
        rank: number of landmarks.
        seed: of the landmarks.

    References:
        Snelson, Ghahramani, Sparse Gaussian Processes Using Pseudo-Inputs (2006), the same approximation of a kernel.
    """

    def __init__(
        self,
        features: AggregatedFeatures,
        used: Tensor,
        targets: Tensor,
        lam: float,
        *,
        normalize: bool,
        rank: int,
        seed: int,
    ) -> None:
        self.normalize, self.lam = normalize, lam
        self.near = TermProducts(features)
        self.norm = self.near.norm()
        drawn = torch.randperm(len(used), generator=torch.Generator().manual_seed(seed))[:rank]
        landmarks = used[drawn.to(used.device)]
        landmark_sums = select_rows(features.sums, landmarks)
        self.landmark_norm, landmark_scale = self.norm[landmarks], features.scale[landmarks]
        self.sum_products = products(features.sums, landmark_sums) * landmark_scale
        self.term_products = products(features.terms, landmark_sums) * landmark_scale
        cross = torch.empty_like(self.sum_products)
        # In parts, since an angle takes several times the memory of its result.
        for part in torch.arange(len(cross)).split(max(1, STEP_ENTRIES // cross.shape[1])):
            rows = slice(int(part[0]), int(part[-1]) + 1)
            inner = self.sum_products[rows] * features.scale[rows, None]
            cross[rows] = arc_cosine(inner, self.norm[rows, None], self.landmark_norm, normalize=normalize)
        landmark_kernel = cross[landmarks]
        landmark_kernel.diagonal().copy_(arc_cosine_diagonal(self.landmark_norm, normalize=normalize))
        values, vectors = torch.linalg.eigh((landmark_kernel + landmark_kernel.T) / 2)
        is_large = values > SMALLEST_EIGENVALUE * values[-1].clamp_min(torch.finfo(values.dtype).tiny)
        self.root = vectors[:, is_large] * values[is_large].rsqrt()

        self.rows = torch.zeros(len(features.scale), self.root.shape[1], dtype=cross.dtype, device=cross.device)
        self.rows[used] = cross[used] @ self.root
        self.weight = torch.zeros_like(self.norm)
        self.weight[used] = self._weight(self.rows[used], self.norm[used])
        self.targets = torch.zeros(len(self.norm), targets.shape[1], dtype=cross.dtype, device=cross.device)
        self.targets[used] = targets
        self.num_used = len(used)

        weighted = self.rows * self.weight[:, None]
        identity = torch.eye(self.rows.shape[1], dtype=cross.dtype, device=cross.device)
        factor = torch.linalg.cholesky(identity + weighted.T @ self.rows)
        half = torch.linalg.solve_triangular(factor, weighted.T @ self.targets, upper=False)
        self.value = float((self.targets.square().sum(1) * self.weight).sum() - half.square().sum()) * 2 / len(used)
        # In the coordinates of the factor, B is the identity.
        inverse_factor = torch.linalg.solve_triangular(factor, identity, upper=False)
        self.root = self.root @ inverse_factor.T
        self.unfactored = factor.T
        self.rows = self.rows @ inverse_factor.T
        self.half = half

    def _weight(self, rows: Tensor, norm: Tensor) -> Tensor:
        diagonal = arc_cosine_diagonal(norm, normalize=self.normalize)
        return 1 / ((diagonal - rows.square().sum(-1)).clamp_min(0) + self.lam)

    def scores(self, removal: EdgeRemoval) -> Tensor:
        """Return by how much the complexity falls when each edge goes, shape (edges,)."""
        num_rows = removal.num_rows()
        scores = torch.zeros(len(num_rows), dtype=self.rows.dtype, device=self.rows.device)
        touching = num_rows.nonzero().squeeze(1)
        order = touching[num_rows[touching].argsort(stable=True)]
        done = 0
        while done < len(order):
            widest = int(num_rows[order[done]])
            step = max(1, STEP_ENTRIES // (2 * self.rows.shape[1] * max(2, widest)))
            step = step if removal.aggregation != "gcn" else min(step, 512)
            index = order[done : done + step]
            scores[index] = self._scores(removal.rows(index))
            done += step
        return scores * 2 / self.num_used

    def _scores(self, removed: RemovedEdges) -> Tensor:
        a, b = removed.ends.T
        norm = self.near.changed_norm(removed)
        inner = self.sum_products[removed.node]
        inner += removed.first[:, :, None] * self.term_products[a][:, None]
        inner += removed.second[:, :, None] * self.term_products[b][:, None]
        inner *= removed.scale[:, :, None]
        new_rows = arc_cosine(inner, norm[:, :, None], self.landmark_norm, normalize=self.normalize) @ self.root
        old_rows = self.rows[removed.node]
        is_row = removed.is_row.to(norm.dtype)
        old_weight = self.weight[removed.node] * is_row
        new_weight = self._weight(new_rows @ self.unfactored, norm) * is_row
        targets = self.targets[removed.node]
        # tr b'ᵀB'⁻¹b' with B' = I + QᵀJQ and b' = b + QᵀJY, for the rows Q and their weights J.
        both = torch.cat([new_rows, old_rows], dim=1)
        signed = torch.cat([new_weight, -old_weight], dim=1)[:, :, None]
        weighted = signed * torch.cat([targets, targets], dim=1)
        overlap = both @ both.mT
        projected = both @ self.half
        response = projected + overlap @ weighted
        identity = torch.eye(both.shape[1], dtype=both.dtype, device=both.device)
        solved = torch.linalg.solve(identity + signed * overlap, signed * response)
        change = 2 * (weighted * projected).sum((1, 2)) + (weighted * (overlap @ weighted)).sum((1, 2))
        change -= (response * solved).sum((1, 2))
        diagonal = (targets.square().sum(2) * (old_weight - new_weight)).sum(1)
        result: Tensor = diagonal + change
        return result
