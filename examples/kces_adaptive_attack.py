"""Attack a graph in the knowledge of the kernel complexity defence: the table of docs/graphs.md.

    python examples/kces_adaptive_attack.py
    python examples/kces_adaptive_attack.py --folder FOLDER

Without a folder, on two block models of 400 nodes, about two minutes of one core. With the files of Cora that
``RobustnessGraph`` describes, on that; about a quarter of an hour.

PRBCD raises the loss of a trained GCN less a multiple of the complexity of guessed labels, which the signed score is
the change of. The multiple is given in units of what the plain attack adds to the loss over what it adds to the
complexity. Each row says how many test nodes a new GCN gets right on the attacked graph and after pruning 20 %, and how
well two scores tell the added edges.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from kces_in_plain_pyg import block_model
from torch_geometric.contrib.nn import PRBCDAttack
from torch_geometric.data import Data

from lightning_regimes.datamodules import RobustnessGraph
from lightning_regimes.graph import KCES, PRBCD, graph_kernel_complexity, train_surrogate
from lightning_regimes.graph.edge_suspicion import Score
from lightning_regimes.graph.surrogate import node_accuracy

SCORES: tuple[Score, ...] = ("signed", "combined+cosine+agreement")
RATE = 0.2


def retrained(data: Data) -> float:
    """Return the test accuracy of a GCN that is trained on a graph."""
    return node_accuracy(train_surrogate(data, epochs=100), data, data.test_mask)


def complexity(data: Data) -> float:
    """Return the complexity of the guessed labels."""
    return float(graph_kernel_complexity(data.edge_index, data.x, data.y, data.train_mask, labels="pseudo"))


def attack_rows(clean: Data, *, epochs: int, block_size: int) -> None:
    """Print one row for each multiple of the penalty."""
    model = train_surrogate(clean, epochs=100)
    index = clean.test_mask.nonzero().squeeze(1)

    @torch.no_grad()
    def loss(data: Data) -> float:
        return float(PRBCDAttack._probability_margin_loss(model(data.x, data.edge_index), data.y, index))

    settings: dict[str, Any] = {"model": model, "epochs": epochs, "block_size": block_size}
    plain = PRBCD(RATE, **settings)(clean)
    unit = (loss(plain) - loss(clean)) / (complexity(plain) - complexity(clean))
    print(f"clean {100 * retrained(clean):.1f}", flush=True)
    for multiple in (0.0, 0.3, 1.0, 3.0):
        attack = PRBCD(RATE, kernel_penalty=multiple * unit, kernel_labels="pseudo", **settings)
        attacked = attack(clean) if multiple else plain
        row = f"  {multiple:g}: complexity {complexity(attacked):.5f}, attacked {100 * retrained(attacked):.1f}"
        for score in SCORES:
            sanitized = KCES(RATE, score=score, solver="nystrom")(attacked)
            auc = sanitized.kces.detection(clean.edge_index).auc
            row += f", {score} AUC {auc:.3f} and {100 * retrained(sanitized):.1f}"
        print(row, flush=True)


def main() -> None:
    """Print the rows of each graph."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, help="of Cora's files")
    folder = parser.parse_args().folder
    if folder is not None:
        attack_rows(RobustnessGraph(folder=folder, name="cora").load().data, epochs=80, block_size=250_000)
        return
    for seed in (0, 1):
        attack_rows(block_model(400, seed=seed), epochs=40, block_size=20_000)


if __name__ == "__main__":
    main()
