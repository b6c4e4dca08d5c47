"""The graph network that an attack looks at when it is not given one."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GCNConv


class TwoLayerGCN(nn.Module):
    """Two graph convolutions with a rectifier and dropout between them.

    References:
        Kipf, Welling, Semi-Supervised Classification with Graph Convolutional Networks, arXiv:1609.02907.
    """

    def __init__(self, num_features: int, num_classes: int, *, hidden: int = 16, dropout: float = 0.5) -> None:
        super().__init__()
        self.first = GCNConv(num_features, hidden)
        self.second = GCNConv(hidden, num_classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Return logits, shape (nodes, classes)."""
        hidden = self.dropout(self.first(x, edge_index, edge_weight).relu())
        result: Tensor = self.second(hidden, edge_index, edge_weight)
        return result


def train_surrogate(
    data: Data,
    *,
    hidden: int = 16,
    epochs: int = 200,
    learning_rate: float = 0.01,
    weight_decay: float = 5e-4,
    seed: int = 0,
) -> nn.Module:
    """Train a two-layer GCN on the training nodes; keep the epoch with the best validation accuracy if there is one.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        num_classes = int(data.y.max()) + 1
        model = TwoLayerGCN(data.x.shape[1], num_classes, hidden=hidden).to(data.x.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
        best, best_state = -1.0, None
        for _ in range(epochs):
            model.train()
            optimizer.zero_grad()
            logits = model(data.x, data.edge_index, data.get("edge_weight"))
            nn.functional.cross_entropy(logits[data.train_mask], data.y[data.train_mask]).backward()
            optimizer.step()
            if data.get("val_mask") is not None:
                accuracy = node_accuracy(model, data, data.val_mask)
                if accuracy >= best:
                    best, best_state = accuracy, copy.deepcopy(model.state_dict())
        if best_state is not None:
            model.load_state_dict(best_state)
    return model.eval()


@torch.no_grad()
def node_accuracy(model: nn.Module, data: Data, mask: Tensor) -> float:
    """Return the share of nodes of a mask that a model gets right."""
    model.eval()
    logits = model(data.x, data.edge_index, data.get("edge_weight"))
    return float((logits.argmax(1) == data.y)[mask].double().mean())
