"""The data sets of PyTorch Geometric that are one graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch_geometric.data import Data

from lightning_regimes.datamodules.graph_source import GraphSource, SourceGraph


@dataclass(frozen=True, kw_only=True)
class PyGDataset(GraphSource):
    """The graph of a data set of PyTorch Geometric, such as ``Planetoid``.

    Raw files that lie where PyG looks for them (``<root>/Cora/raw`` for ``Planetoid``) are read from there; otherwise
    PyG downloads them.

    Attributes:
        dataset: name of a class in ``torch_geometric.datasets``, or the path of a class.
        root: folder of its files.
        options: further arguments of the class, such as ``{"name": "Cora"}``.
        split_index: which column of the masks to take, where a data set has several splits.

    Raises:
        ValueError: there is no such data set, or it is not one homogeneous graph with labels.
    """

    dataset: str = "Planetoid"
    root: str = "data"
    options: dict[str, Any] = field(default_factory=dict)
    split_index: int = 0

    def load(self) -> SourceGraph:
        """Read the data set."""
        module, _, name = self.dataset.rpartition(".")
        try:
            kind = getattr(import_module(module or "torch_geometric.datasets"), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"`dataset` is a class in torch_geometric.datasets or the path of one, got {self.dataset!r}"
            ) from error
        graphs = kind(root=self.root, **self.options)
        if len(graphs) != 1:
            raise ValueError(f"`dataset` is one graph, and {self.dataset} has {len(graphs)}")
        data = graphs[0]
        if not isinstance(data, Data) or data.y is None:
            raise ValueError(f"`dataset` is a homogeneous graph with labels `y`, got {self.dataset}")
        data = data.clone()
        for part in ("train_mask", "val_mask", "test_mask"):
            mask = data.get(part)
            if mask is not None and mask.ndim == 2:
                data[part] = mask[:, self.split_index]
        return SourceGraph(data)
