"""Sanitize a graph in plain PyTorch Geometric: no trainer, no configuration.

    python examples/kces_in_plain_pyg.py

A graph with classes gets edges between them; a two-layer GCN is trained on the clean graph, on the attacked one, and on
the attacked one after three sanitizers that read no test label. It runs in seconds. These attacks do not know of the
defence.
"""

from __future__ import annotations

import torch
from torch_geometric.data import Data

from lightning_regimes.graph import KCES, CosinePrune, RandomEdges, train_surrogate
from lightning_regimes.graph.surrogate import node_accuracy


def block_model(num_nodes: int = 1500, *, seed: int = 0) -> Data:
    """Return a contextual block model of five classes with mean degree 5."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(5, (num_nodes,), generator=generator)
    x = 0.5 * torch.randn(5, 64, generator=generator)[y] + torch.randn(num_nodes, 64, generator=generator)
    first, second = torch.randint(num_nodes, (2, 12 * num_nodes), generator=generator)
    chance = torch.where(y[first] == y[second], 0.8, 0.05)
    taken = (torch.rand(len(first), generator=generator) < chance) & (first != second)
    pairs = torch.stack([torch.minimum(first, second), torch.maximum(first, second)])[:, taken].unique(dim=1)
    data = Data(x=x, y=y, edge_index=torch.cat([pairs, pairs.flip(0)], dim=1))
    part = torch.rand(num_nodes, generator=generator)
    data.train_mask, data.val_mask, data.test_mask = part < 0.1, (part >= 0.1) & (part < 0.2), part >= 0.2
    return data


def main() -> None:
    """Print the test accuracy on each graph."""
    clean = block_model()
    attacked = RandomEdges(0.6, inter_class=True)(clean)
    sanitized = KCES(0.2, score="signed")(attacked)
    report = sanitized.kces
    graphs = {
        "clean": clean,
        "attacked": attacked,
        "attacked, KCES": sanitized,
        "attacked, cosine": CosinePrune(ratio=0.2)(attacked),
        "attacked, KCES with cosine": KCES(0.2, score="signed+cosine")(attacked),
    }
    print(f"KCES pruned {report.num_pruned} of {report.num_edges} edges; {report.detection(clean.edge_index)}")
    for name, graph in graphs.items():
        print(f"{name:28s} test accuracy {node_accuracy(train_surrogate(graph), graph, graph.test_mask):.3f}")


if __name__ == "__main__":
    main()
