"""Graphs in the file formats of the literature on the robustness of graph networks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch_geometric.data import Data

from lightning_regimes.datamodules.graph_source import GraphSource, SourceGraph

_ADJACENCY = {"metattack": "meta", "nettack": "nettack"}
_PARTS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class RobustnessGraph(GraphSource):
    """A citation or blog graph from ``<name>.npz``, as it is or attacked, on its largest connected component.

    In ``folder`` are ``<name>.npz`` with the parts of the sparse matrices of adjacency and features and the labels,
    ``<name>_prognn_splits.json`` with ``idx_train``, ``idx_val`` and ``idx_test`` where there is a split, and attacked
    adjacency matrices as ``<name>_meta_adj_<rate>.npz`` and ``<name>_nettack_adj_<rate>.npz``. Nothing in them is
    unpickled. Edges are made undirected and self-loops are left out. Without features a node's are its number, one-hot.

    Attributes:
        folder: with the files.
        name: "cora", "citeseer", "polblogs" or another graph in the same format.
        attack: whose adjacency matrix to read; none for the clean one.
        rate: the attack's changed edges over the clean ones; for "nettack" changed edges for each attacked node.

    Raises:
        ValueError: an attack without a rate or the other way round, or files that do not belong together.
        FileNotFoundError: a file is missing.

    References:
        D. Zügner, S. Günnemann, "Adversarial attacks on graph neural networks via meta learning", ICLR 2019,
        arXiv:1902.08412 (format, Metattack). W. Jin et al., "Graph structure learning for robust graph neural
        networks", KDD 2020, arXiv:2005.10203 (attacked graphs, splits).
    """

    folder: str
    name: str = "cora"
    attack: Literal["metattack", "nettack"] | None = None
    rate: float = 0.0

    def __post_init__(self) -> None:
        if self.attack is not None and self.attack not in _ADJACENCY:
            raise ValueError(f'`attack` is "metattack", "nettack" or none, got {self.attack!r}')
        if (self.attack is None) != (self.rate == 0):
            raise ValueError(f"`rate` is positive with an attack and 0 without, got {self.rate} for {self.attack}")

    def load(self) -> SourceGraph:
        """Read the files."""
        with np.load(self._file(f"{self.name}.npz"), allow_pickle=False) as parts:
            adjacency = _sparse(parts, "adj")
            labels = np.asarray(parts["labels"], dtype=np.int64)
            features = _sparse(parts, "attr") if "attr_data" in parts.files else None
        adjacency = _undirected(adjacency)
        kept = _largest_component(adjacency)
        clean = _edge_index(adjacency[kept][:, kept])
        x = np.eye(kept.size) if features is None else features[kept].toarray()
        edge_index = clean if self.attack is None else self._attacked(kept.size)
        data = Data(x=torch.as_tensor(x, dtype=torch.float32), edge_index=edge_index, y=torch.as_tensor(labels[kept]))
        for part, mask in self._masks(kept.size).items():
            data[f"{part}_mask"] = mask
        return SourceGraph(data, None if self.attack is None else clean)

    def _attacked(self, num_nodes: int) -> Tensor:
        assert self.attack is not None
        file = self._file(f"{self.name}_{_ADJACENCY[self.attack]}_adj_{float(self.rate)}.npz")
        adjacency = _undirected(scipy.sparse.load_npz(file).tocsr())
        if adjacency.shape[0] != num_nodes:
            raise ValueError(
                f"{file} has {adjacency.shape[0]} nodes, and the largest component of {self.name} has {num_nodes}"
            )
        return _edge_index(adjacency)

    def _masks(self, num_nodes: int) -> dict[str, Tensor]:
        file = Path(self.folder, f"{self.name}_prognn_splits.json")
        if not file.is_file():
            return {}
        split = json.loads(file.read_text(encoding="utf-8"))
        masks = {}
        for part in _PARTS:
            index = torch.as_tensor(split[f"idx_{part}"], dtype=torch.int64)
            if index.numel() and int(index.max()) >= num_nodes:
                raise ValueError(f"{file} names node {int(index.max())}, and the largest component has {num_nodes}")
            masks[part] = torch.zeros(num_nodes, dtype=torch.bool)
            masks[part][index] = True
        return masks

    def _file(self, name: str) -> Path:
        file = Path(self.folder, name)
        if not file.is_file():
            raise FileNotFoundError(f"`folder` holds no {name}, got {self.folder!r}")
        return file


def _sparse(parts: np.lib.npyio.NpzFile, name: str) -> scipy.sparse.csr_matrix:
    arrays = (parts[f"{name}_data"], parts[f"{name}_indices"], parts[f"{name}_indptr"])
    return scipy.sparse.csr_matrix(arrays, shape=tuple(parts[f"{name}_shape"]))


def _undirected(adjacency: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
    symmetric = ((adjacency + adjacency.T) != 0).astype(np.float64).tolil()
    symmetric.setdiag(0)
    result = symmetric.tocsr()
    result.eliminate_zeros()
    return result


def _largest_component(adjacency: scipy.sparse.csr_matrix) -> np.ndarray:
    _, component = connected_components(adjacency, directed=False)
    return np.flatnonzero(component == np.bincount(component).argmax())


def _edge_index(adjacency: scipy.sparse.csr_matrix) -> Tensor:
    rows, columns = adjacency.nonzero()
    return torch.as_tensor(np.stack([rows, columns]), dtype=torch.int64)
