"""Small graphs with classes, and graph kernel complexity straight from its definition."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sparse
import torch
from scipy.sparse.csgraph import connected_components
from torch_geometric.data import Data
from torch_geometric.utils import from_scipy_sparse_matrix

from lightning_regimes.graph.undirected_edges import undirected_edges


def make_block_model(num_nodes, *, features=16, classes=4, degree=5, noise=2.0, train=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (num_nodes,), generator=generator)
    centres = torch.randn(classes, features, generator=generator, dtype=torch.float64)
    x = centres[y] + noise * torch.randn(num_nodes, features, generator=generator, dtype=torch.float64)
    count = num_nodes * degree // 2
    first, second = torch.randint(num_nodes, (2, 6 * count), generator=generator)
    chance = torch.where(y[first] == y[second], 1.0, 0.1)
    taken = (torch.rand(6 * count, generator=generator) < chance) & (first != second)
    pairs = torch.stack([torch.minimum(first, second), torch.maximum(first, second)])[:, taken].unique(dim=1)
    pairs = pairs[:, torch.randperm(pairs.shape[1], generator=generator)[:count]]
    train_mask = torch.rand(num_nodes, generator=generator) < train
    return torch.cat([pairs, pairs.flip(0)], dim=1), x, y, train_mask


def compute_definition(pairs, x, used, y, *, lam, normalize="aggregated", aggregation="mean", targets=None):
    """GKC from dense matrices, with angles that do not come from inner products."""
    adjacency = torch.eye(len(x), dtype=torch.float64)
    adjacency[pairs[:, 0], pairs[:, 1]] = adjacency[pairs[:, 1], pairs[:, 0]] = 1.0
    degree = adjacency.sum(1)
    scale = {"mean": 1 / degree, "sum": torch.ones_like(degree), "gcn": degree.rsqrt()}[aggregation]
    other = degree.rsqrt() if aggregation == "gcn" else torch.ones_like(degree)
    x = x / x.norm(dim=1, keepdim=True) if normalize == "features" else x
    rows = ((scale[:, None] * adjacency * other) @ x)[used]
    norm = rows.norm(dim=1)
    unit = rows / norm[:, None]
    angle = 2 * torch.atan2((unit[:, None] - unit).norm(dim=2), (unit[:, None] + unit).norm(dim=2))
    kernel = angle.cos() * (torch.pi - angle) / (2 * torch.pi)
    kernel = kernel if normalize == "aggregated" else kernel * norm[:, None] * norm
    targets = torch.nn.functional.one_hot(y[used]).double() if targets is None else targets
    targets = targets - targets.mean(0)
    regularized = kernel + lam * torch.eye(len(used), dtype=torch.float64)
    return 2 / len(used) * (targets * torch.linalg.solve(regularized, targets)).sum()


def compute_scores_by_definition(edge_index, x, y, used, rows, **settings):
    pairs = undirected_edges(edge_index, len(y)).pairs
    whole = compute_definition(pairs, x, used, y, **settings)
    return torch.stack(
        [whole - compute_definition(torch.cat([pairs[:i], pairs[i + 1 :]]), x, used, y, **settings) for i in rows]
    )


@pytest.fixture
def block_model():
    return make_block_model


@pytest.fixture
def definition():
    return compute_definition


@pytest.fixture
def scores_by_definition():
    return compute_scores_by_definition


@pytest.fixture
def block_graph(block_model):
    def build(num_nodes=120, **settings):
        edge_index, x, y, train_mask = block_model(num_nodes, **settings)
        data = Data(x=x.float(), y=y, edge_index=edge_index, train_mask=train_mask)
        order = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(1))
        data.val_mask = ~train_mask & (order < num_nodes // 3)
        data.test_mask = ~train_mask & ~data.val_mask
        return data

    return build


@pytest.fixture
def attacked_graph():
    """Cora or Polblogs as the robustness literature cuts them, clean or after Metattack."""
    root = os.environ.get("REGIMES_TEST_DATA")
    if not root or not (Path(root) / "graphs").is_dir():
        pytest.skip("REGIMES_TEST_DATA names no folder with graphs")
    folder = Path(root) / "graphs"

    def load(name, rate=None):
        with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
            parts = {key: file[key] for key in file.files if key.startswith(("adj_", "attr_")) or key == "labels"}
        matrix = sparse.csr_matrix(
            (parts["adj_data"], parts["adj_indices"], parts["adj_indptr"]), shape=parts["adj_shape"]
        )
        matrix = ((matrix + matrix.T) > 0).astype(np.float32)
        component = connected_components(matrix)[1]
        nodes = np.flatnonzero(component == np.bincount(component).argmax())
        matrix = matrix[nodes][:, nodes].tolil()
        matrix.setdiag(0)
        matrix = matrix.tocsr()
        matrix.eliminate_zeros()
        x = torch.eye(len(nodes))
        if "attr_data" in parts:
            features = (parts["attr_data"], parts["attr_indices"], parts["attr_indptr"])
            x = torch.from_numpy(sparse.csr_matrix(features, shape=parts["attr_shape"])[nodes].toarray()).float()
        data = Data(x=x, y=torch.from_numpy(parts["labels"][nodes]).long())
        data.clean_graph = from_scipy_sparse_matrix(matrix)[0]
        if rate is not None:
            matrix = sparse.load_npz(folder / f"{name}_meta_adj_{rate}.npz")
        data.edge_index = from_scipy_sparse_matrix(matrix)[0]
        splits = json.loads((folder / f"{name}_prognn_splits.json").read_text())
        for part in ("train", "val", "test"):
            data[f"{part}_mask"] = torch.zeros(len(nodes), dtype=torch.bool)
            data[f"{part}_mask"][splits[f"idx_{part}"]] = True
        return data

    return load
