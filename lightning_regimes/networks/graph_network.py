"""Message passing over a graph, by the convolutions of PyTorch Geometric or by any other."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

_CONVOLUTIONS = {"GCN": "GCNConv", "GAT": "GATConv", "GraphSAGE": "SAGEConv", "GIN": "GINConv"}


class GraphNetwork(nn.Module):
    """Graph convolutions with ReLU and dropout between them: ``(n, num_features)`` to ``(n, num_outputs)``.

    Args:
        num_features: features of a node.
        num_outputs: outputs of a node, for a classifier its classes.
        convolution: "GCN", "GAT", "GraphSAGE", "GIN", the name of a class in ``torch_geometric.nn`` or the path of any
            class that is made from numbers of input and output features and is called with ``(x, edge_index)``.
        convolution_options: passed on to the class. With ``heads`` (GAT), hidden layers concatenate so many heads of
            ``hidden_features / heads`` features, and the last layer has one head.
        hidden_features: width of the hidden layers.
        num_layers: convolutions, and so the distance over which nodes see each other.
        dropout: probability with which a hidden feature is zeroed in training.

    Attributes:
        arguments: what it was made with, for configuration files and checkpoints.
        takes_edge_weights: whether the convolution has an argument ``edge_weight``.

    Raises:
        ValueError: a number is out of range, or there is no such convolution.

    References:
        GCN: T. N. Kipf, M. Welling, ICLR 2017, arXiv:1609.02907. GAT: P. Veličković et al., ICLR 2018,
        arXiv:1710.10903. GraphSAGE: W. Hamilton et al., NeurIPS 2017, arXiv:1706.02216. GIN: K. Xu et al., ICLR 2019,
        arXiv:1810.00826, eq. 4.1.
    """

    def __init__(
        self,
        num_features: int,
        num_outputs: int,
        *,
        convolution: str = "GCN",
        convolution_options: Mapping[str, Any] | None = None,
        hidden_features: int = 16,
        num_layers: int = 2,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        for name, size in (
            ("num_features", num_features),
            ("num_outputs", num_outputs),
            ("hidden_features", hidden_features),
            ("num_layers", num_layers),
        ):
            if size < 1:
                raise ValueError(f"`{name}` is at least 1, got {size}")
        if not 0 <= dropout < 1:
            raise ValueError(f"`dropout` lies in [0, 1), got {dropout}")
        options = dict(convolution_options or {})
        heads = options.get("heads", 1)
        if hidden_features % heads:
            raise ValueError(f"`hidden_features` is a multiple of the {heads} heads, got {hidden_features}")
        self.arguments = {
            "num_features": num_features,
            "num_outputs": num_outputs,
            "convolution": convolution,
            "convolution_options": options or None,
            "hidden_features": hidden_features,
            "num_layers": num_layers,
            "dropout": dropout,
        }
        self.num_features = num_features
        self.dropout = dropout
        kind = _convolution_class(convolution)
        self.takes_edge_weights = "edge_weight" in inspect.signature(kind.forward).parameters
        self._convolution = convolution
        sizes = [num_features, *[hidden_features] * (num_layers - 1), num_outputs]
        layers = []
        for index, (num_inputs, num_results) in enumerate(itertools.pairwise(sizes)):
            own = dict(options)
            if heads > 1:
                is_last = index == num_layers - 1
                own["heads"] = 1 if is_last else heads
                num_results = num_results if is_last else num_results // heads
            layers.append(_layer(kind, num_inputs, num_results, own))
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Return the outputs of all nodes.

        Args:
            x: features, (n, num_features).
            edge_index: source and target of each edge, (2, number of edges).
            edge_weight: (number of edges,), all 1 where not given.

        Raises:
            ValueError: there are weights, and the convolution takes none.
        """
        weights = () if edge_weight is None else (edge_weight,)
        if weights and not self.takes_edge_weights:
            raise ValueError(
                f"{self._convolution} takes no edge weights: use one that does, such as GCN, or a graph without "
                "`edge_weight`"
            )
        for index, layer in enumerate(self.layers):
            if index:
                x = F.dropout(F.relu(x), self.dropout, self.training)
            x = layer(x, edge_index, *weights)
        return x


def _convolution_class(convolution: str) -> type[nn.Module]:
    path = _CONVOLUTIONS.get(convolution, convolution)
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module or "torch_geometric.nn"), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"`convolution` is one of {', '.join(_CONVOLUTIONS)}, a class in torch_geometric.nn or the path of a "
            f"class, got {convolution!r}"
        ) from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"`convolution` names a subclass of `torch.nn.Module`, got {convolution!r}")
    return found


def _layer(kind: type[nn.Module], num_inputs: int, num_outputs: int, options: dict[str, Any]) -> nn.Module:
    if kind.__name__ == "GINConv":
        # The network that GIN applies to the sum over the neighbours.
        inner = nn.Sequential(
            nn.Linear(num_inputs, num_outputs),
            nn.ReLU(),
            nn.Linear(num_outputs, num_outputs),
        )
        return kind(inner, **options)
    return kind(num_inputs, num_outputs, **options)
