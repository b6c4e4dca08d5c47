"""Accuracy of graph networks on attacked citation graphs, with and without a defence: the table of docs/graphs.md.

Each row is one graph, poisoned, and one way to take out edges before training. Networks have two layers of 16 hidden
features (GAT: 8 heads of 8) and dropout 0.5; they train for 200 epochs of Adam with rate 0.01 and an L2 penalty of
5e-4, and are tested with the weights of the best validation accuracy.

    python examples/graph_defences.py FOLDER --rates 0 0.1 0.2 --networks GCN --seeds 3

FOLDER holds the files that ``RobustnessGraph`` describes. Results go to standard output as they come, one JSON object a
line, with the mean and the standard deviation over the seeds in per cent.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform, Compose

from lightning_regimes.datamodules import RobustnessGraph
from lightning_regimes.graph import DICE, KCES, PRBCD, JaccardPrune, LowRankSVD, RandomEdges
from lightning_regimes.networks import GraphNetwork

DEFENCES: dict[str, Callable[[], BaseTransform | None]] = {
    "none": lambda: None,
    "Jaccard": lambda: JaccardPrune(0.01),
    "SVD": lambda: LowRankSVD(50),
    "KCES 0.1": lambda: KCES(0.1),
    "KCES 0.2": lambda: KCES(0.2),
    "KCES chosen": lambda: KCES("kernel-val", min_ratio=0.05),
    "KCES pseudo 0.3": lambda: KCES(0.3, score="signed", labels="pseudo"),
    "KCES 0.2, Jaccard": lambda: Compose([KCES(0.2), JaccardPrune(0.01)]),
}

ATTACKS = ("metattack", "prbcd", "prbcd-adaptive", "dice", "random")

NETWORKS: dict[str, dict[str, Any]] = {
    "GCN": {},
    "GAT": {"convolution_options": {"heads": 8}, "hidden_features": 64},
    "GraphSAGE": {},
    "GIN": {},
}


def attacked_graph(folder: str, name: str, attack: str, rate: float) -> Data:
    """Return a graph from its file, or a clean one that is attacked now."""
    if rate == 0:
        return RobustnessGraph(folder=folder, name=name).load().data
    if attack == "metattack":
        return RobustnessGraph(folder=folder, name=name, attack="metattack", rate=rate).load().data
    clean = RobustnessGraph(folder=folder, name=name).load().data
    attacks: dict[str, Callable[[], BaseTransform]] = {
        "prbcd": lambda: PRBCD(rate),
        "prbcd-adaptive": lambda: PRBCD(rate, kernel_penalty=1.0),
        "dice": lambda: DICE(rate),
        "random": lambda: RandomEdges(rate),
    }
    return attacks[attack]()(clean)


def accuracy(data: Data, network: str, seed: int) -> float:
    """Return the test accuracy of one training."""
    torch.manual_seed(seed)
    model = GraphNetwork(data.num_features, int(data.y.max()) + 1, convolution=network, **NETWORKS[network])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
    weights = data.get("edge_weight")
    best, kept = -1.0, copy.deepcopy(model.state_dict())
    for _ in range(200):
        model.train()
        optimizer.zero_grad()
        logits = model(data.x, data.edge_index, weights)
        F.cross_entropy(logits[data.train_mask], data.y[data.train_mask]).backward()
        optimizer.step()
        share = evaluate(model, data, data.val_mask)
        if share > best:
            best, kept = share, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return evaluate(model, data, data.test_mask)


@torch.no_grad()
def evaluate(model: GraphNetwork, data: Data, mask: torch.Tensor) -> float:
    """Return the share of right labels among some nodes."""
    model.eval()
    predicted = model(data.x, data.edge_index, data.get("edge_weight")).argmax(dim=-1)
    return float((predicted == data.y)[mask].double().mean())


def main() -> None:
    """Train every combination that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder")
    parser.add_argument("--name", default="cora")
    parser.add_argument("--attack", default="metattack", choices=ATTACKS)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0, 0.1, 0.2])
    parser.add_argument("--defences", nargs="+", default=list(DEFENCES), choices=list(DEFENCES))
    parser.add_argument("--networks", nargs="+", default=["GCN"], choices=list(NETWORKS))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    for rate in arguments.rates:
        graph = attacked_graph(arguments.folder, arguments.name, arguments.attack, rate)
        for defence in arguments.defences:
            start = time.perf_counter()
            sanitizer = DEFENCES[defence]()
            data = graph if sanitizer is None else sanitizer(graph.clone())
            seconds = time.perf_counter() - start
            pruned = 1 - data.edge_index.shape[1] / graph.edge_index.shape[1]
            for network in arguments.networks:
                if data.get("edge_weight") is not None and network != "GCN":
                    continue
                values = 100 * torch.tensor([accuracy(data, network, seed) for seed in range(arguments.seeds)])
                row = {"graph": arguments.name, "attack": arguments.attack, "rate": rate, "defence": defence}
                row |= {"network": network, "accuracy": round(float(values.mean()), 1)}
                row |= {"deviation": round(float(values.std()), 1) if len(values) > 1 else 0.0}
                print(json.dumps({**row, "pruned": round(pruned, 3), "seconds": round(seconds, 1)}), flush=True)


if __name__ == "__main__":
    main()
