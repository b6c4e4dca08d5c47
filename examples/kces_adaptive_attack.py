"""Attack a graph in the knowledge of the kernel complexity defence: the table of docs/graphs.md.

    python examples/kces_adaptive_attack.py

PRBCD raises the loss of a trained GCN less a multiple of the complexity of guessed labels, which the signed score is
the change of. The multiple is given in units of what the plain attack adds to the loss over what it adds to the
complexity. Each row says how many test nodes a new GCN gets right on the attacked graph and after pruning 20 %, and how
well two scores tell the added edges. About two minutes of one core.
"""

from __future__ import annotations

from typing import Any

import torch
from kces_in_plain_pyg import block_model
from torch_geometric.contrib.nn import PRBCDAttack
from torch_geometric.data import Data

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


def main() -> None:
    """Print one row an attack."""
    for seed in (0, 1):
        clean = block_model(400, seed=seed)
        model = train_surrogate(clean, epochs=100)
        index = clean.test_mask.nonzero().squeeze(1)

        @torch.no_grad()
        def loss(data: Data, model: torch.nn.Module = model, index: torch.Tensor = index) -> float:
            return float(PRBCDAttack._probability_margin_loss(model(data.x, data.edge_index), data.y, index))

        settings: dict[str, Any] = {"model": model, "epochs": 40, "block_size": 20_000}
        plain = PRBCD(RATE, **settings)(clean)
        unit = (loss(plain) - loss(clean)) / (complexity(plain) - complexity(clean))
        print(f"seed {seed}: clean {100 * retrained(clean):.1f}")
        for multiple in (0.0, 0.3, 1.0, 3.0):
            attack = PRBCD(RATE, kernel_penalty=multiple * unit, kernel_labels="pseudo", **settings)
            attacked = attack(clean) if multiple else plain
            row = f"  {multiple:g}: complexity {complexity(attacked):.5f}, attacked {100 * retrained(attacked):.1f}"
            for score in SCORES:
                sanitized = KCES(RATE, score=score)(attacked)
                auc = sanitized.kces.detection(clean.edge_index).auc
                row += f", {score} AUC {auc:.3f} and {100 * retrained(sanitized):.1f}"
            print(row, flush=True)


if __name__ == "__main__":
    main()
