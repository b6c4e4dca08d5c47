"""A graph with some of its edges, and everything that belongs to edges."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import is_undirected, to_undirected

from lightning_regimes.graph.undirected_edges import UndirectedEdges, undirected_edges

Directed = Literal["error", "symmetrize"]


def check_graph(data: Data) -> None:
    """Refuse what is no homogeneous graph with edges."""
    if not isinstance(data, Data):
        raise TypeError(f"`data` is a homogeneous torch_geometric.data.Data, got {type(data).__name__}")
    if data.edge_index is None:
        raise ValueError("`data.edge_index` is needed, got None")


def node_count(data: Data) -> int:
    """Return the number of nodes of a graph."""
    count = data.num_nodes
    if count is None:
        raise ValueError("`data` tells its number of nodes, got none: set `num_nodes`")
    return int(count)


def edges_of(data: Data) -> UndirectedEdges:
    """Return the undirected edges of a graph."""
    check_graph(data)
    assert data.edge_index is not None
    return undirected_edges(data.edge_index, node_count(data))


def check_directed(directed: str) -> None:
    """Refuse an unknown way to deal with directed graphs."""
    if directed not in ("error", "symmetrize"):
        raise ValueError(f'`directed` is "error" or "symmetrize", got {directed!r}')


def symmetrized(data: Data, directed: Directed) -> Data:
    """Return a graph with both arcs of each edge if this is asked for; attributes of edges are averaged."""
    check_directed(directed)
    check_graph(data)
    if directed == "error" or is_undirected(data.edge_index, num_nodes=node_count(data)):
        return data
    result = data.clone()
    names = [name for name in data.keys() if name != "edge_index" and data.is_edge_attr(name)]  # noqa: SIM118
    result.edge_index, values = to_undirected(
        data.edge_index, [data[name] for name in names], num_nodes=node_count(data), reduce="mean"
    )
    for name, value in zip(names, values, strict=True):
        result[name] = value
    return result


def keep_columns(data: Data, keep: Tensor) -> Data:
    """Return a graph with some columns of ``edge_index`` and of all attributes of edges; the given one stays."""
    result = data.clone()
    for name in data.keys():  # noqa: SIM118
        value = data[name]
        if name == "edge_index":
            result.edge_index = value[:, keep]
        elif torch.is_tensor(value) and data.is_edge_attr(name):
            result[name] = value[keep]
    return result
