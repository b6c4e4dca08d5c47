"""Where a graph whose nodes are to be classified comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch_geometric.data import Data


@dataclass(frozen=True, eq=False)
class SourceGraph:
    """A graph as a source gives it.

    Attributes:
        data: with ``x`` (n, features), ``y`` (n,), an undirected ``edge_index`` and, where the source has a split,
            ``train_mask``, ``val_mask`` and ``test_mask``.
        clean_edge_index: the edges before an attack, where ``data`` is attacked and they are known.
    """

    data: Data
    clean_edge_index: Tensor | None = None


class GraphSource(ABC):
    """Makes or reads one graph."""

    @abstractmethod
    def load(self) -> SourceGraph:
        """Return the graph, the same one in every process and at every call."""
