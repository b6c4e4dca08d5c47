"""Sanitizers from the similarity of features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from lightning_regimes.graph.edge_mask import edges_of, keep_columns
from lightning_regimes.graph.edge_suspicion import cosine_similarity
from lightning_regimes.graph.pruning_ratio import pruned
from lightning_regimes.graph.target_source import check_features


def features_of(data: Data, name: str) -> Tensor:
    """Return the features of a graph, which this sanitizer cannot do without."""
    x = data.get("x")
    if x is None:
        raise ValueError(f"`data.x` is needed by {name}, got None")
    check_features(x, len(x))
    result: Tensor = x
    return result


class JaccardPrune(BaseTransform):
    r"""Take out edges between nodes whose binary features have too little in common.

    .. math:: J_{ab} = \frac{|x_a \wedge x_b|}{|x_a \vee x_b|}

    Args:
        threshold: edges with a smaller index go. Features count as present where they are not 0.

    References:
        Wu et al., Adversarial Examples for Graph Data: Deep Insights into Attack and Defense, arXiv:1903.01610.
    """

    def __init__(self, threshold: float = 0.01) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"`threshold` is from 0 to 1, got {threshold}")
        self.threshold = threshold

    def forward(self, data: Data) -> Data:
        edges = edges_of(data)
        present = features_of(data, "JaccardPrune") != 0
        first, second = edges.pairs.T
        # Sums of booleans in 32 bits take a fifth of the time of those in 64.
        common = (present[first] & present[second]).sum(1, dtype=torch.int32).double()
        count = present.sum(1, dtype=torch.int32)
        either = count[first] + count[second] - common
        return keep_columns(data, edges.columns(common / either.clamp_min(1) >= self.threshold))


class CosinePrune(BaseTransform):
    """Take out edges between nodes whose features point in different directions.

    Args:
        threshold: edges with a smaller cosine go.
        ratio: the share of the edges with the smallest cosine goes instead.
    """

    def __init__(self, threshold: float = 0.05, *, ratio: float | None = None) -> None:
        if ratio is not None and not 0 <= ratio < 1:
            raise ValueError(f"`ratio` is at least 0 and below 1, got {ratio}")
        self.threshold, self.ratio = threshold, ratio

    def forward(self, data: Data) -> Data:
        edges = edges_of(data)
        cosine = cosine_similarity(features_of(data, "CosinePrune"), edges.pairs)
        keep = cosine >= self.threshold if self.ratio is None else pruned(edges.num_edges, self.ratio, -cosine)
        return keep_columns(data, edges.columns(keep))


class LowRankSVD(BaseTransform):
    r"""Replace the adjacency matrix by its nearest one of low rank, as weights of edges.

    .. math:: A \approx U_r S_r V_r^\top

    The result has all entries that are larger than a threshold, with their values as ``edge_weight``. Other attributes
    of edges go. Only for graphs whose dense adjacency matrix fits in memory.

    Args:
        rank: number of singular values.
        threshold: smaller entries, and all negative ones, are left out.

    References:
        Entezari et al., All You Need Is Low (Rank), WSDM 2020.
    """

    def __init__(self, rank: int = 50, *, threshold: float = 0.01) -> None:
        if rank < 1:
            raise ValueError(f"`rank` is at least 1, got {rank}")
        self.rank, self.threshold = rank, threshold

    def forward(self, data: Data) -> Data:
        from scipy.sparse import coo_matrix
        from scipy.sparse.linalg import eigsh

        edges = edges_of(data)
        if self.rank >= edges.num_nodes:
            raise ValueError(f"`rank` is below the number of nodes {edges.num_nodes}, got {self.rank}")
        first, second = torch.cat([edges.pairs, edges.pairs.flip(1)]).cpu().T.numpy()
        shape = (edges.num_nodes, edges.num_nodes)
        adjacency = coo_matrix((np.ones(len(first)), (first, second)), shape=shape).tocsr()
        # Of a symmetric matrix, the eigenvalues of largest magnitude are the largest singular values up to their signs.
        start = np.random.default_rng(0).standard_normal(edges.num_nodes)
        eigenvalues, vectors = eigsh(adjacency, self.rank, which="LM", v0=start)
        dense = torch.from_numpy((vectors * eigenvalues) @ vectors.T)
        dense = (dense + dense.T) / 2
        dense.fill_diagonal_(0)
        index = (dense > self.threshold).nonzero().T
        result = data.clone()
        for name in data.keys():  # noqa: SIM118
            if name != "edge_index" and data.is_edge_attr(name):
                del result[name]
        result.edge_index = index.to(edges.pairs.device)
        result.edge_weight = dense[index[0], index[1]].float().to(edges.pairs.device)
        return result
