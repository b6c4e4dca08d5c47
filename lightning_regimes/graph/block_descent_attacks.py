"""Attacks by gradients on random blocks of the adjacency matrix."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from lightning_regimes.graph.attack_report import check_rate, perturbation_budget, with_edges
from lightning_regimes.graph.edge_mask import edges_of, node_count
from lightning_regimes.graph.edge_scores import graph_kernel_complexity
from lightning_regimes.graph.surrogate import train_surrogate
from lightning_regimes.graph.undirected_edges import arcs_of, undirected_edges

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # the package calls itself experimental at every import
    from torch_geometric.contrib.nn import GRBCDAttack, PRBCDAttack

Nodes = Literal["test", "train", "val", "all"]
Loss = str | Callable[..., Tensor]


class _Penalized(PRBCDAttack):
    """Looks for changes that raise the loss of the task and not the complexity of the graph."""

    def __init__(
        self, *arguments: Any, penalty: float, complexity: Callable[[Tensor, Tensor], Tensor], **settings: Any
    ):
        super().__init__(*arguments, **settings)
        self.penalty, self.complexity = penalty, complexity

    def _forward_and_gradient(
        self, x: Tensor, labels: Tensor, idx_attack: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        self.block_edge_weight.requires_grad = True
        edge_index, edge_weight = self._get_modified_adj(
            self.edge_index, self.edge_weight, self.block_edge_index, self.block_edge_weight
        )
        loss = self.loss(self._forward(x, edge_index, edge_weight, **kwargs), labels, idx_attack)
        loss = loss - self.penalty * self.complexity(edge_index, edge_weight)
        return loss, torch.autograd.grad(loss, self.block_edge_weight)[0]


class PRBCD(BaseTransform):
    r"""Projected randomized block coordinate descent, with PyG's implementation.

    The changes maximise :math:`L_{\mathrm{task}} - \mu\, \mathrm{GKC}` of the changed graph. With :math:`\mu > 0` the
    attack knows of the kernel complexity defence and avoids what that looks at.

    Args:
        rate: number of changes as a share of the edges.
        model: the network under attack, called as ``model(x, edge_index, edge_weight)``; None trains a two-layer GCN.
        nodes: whose loss is raised.
        loss: a name that PyG knows, or ``loss(logits, y, index)``. On Cora the margin of probabilities hurts more than
            its hyperbolic tangent (57 against 63 % of the test nodes right after 20 % of changes).
        epochs: number of steps; the block is drawn anew in the first four fifths of them.
        block_size: number of entries of the adjacency matrix in a block.
        kernel_penalty: :math:`\mu`.
        kernel_labels: whose complexity, ``"train"`` or ``"pseudo"``.
        seed: of the blocks and the surrogate; the global random state is left as it was.

    References:
        Geisler et al., Robustness of Graph Neural Networks at Scale, arXiv:2110.14038.
    """

    def __init__(
        self,
        rate: float,
        *,
        model: nn.Module | None = None,
        nodes: Nodes = "test",
        loss: Loss = "prob_margin",
        epochs: int = 125,
        block_size: int = 250_000,
        kernel_penalty: float = 0.0,
        kernel_labels: Literal["train", "pseudo"] = "train",
        seed: int = 0,
    ) -> None:
        check_rate(rate)
        if nodes not in ("test", "train", "val", "all"):
            raise ValueError(f"`nodes` is one of test, train, val, all, got {nodes!r}")
        self.rate, self.model, self.nodes, self.loss = rate, model, nodes, loss
        self.epochs, self.block_size, self.seed = epochs, block_size, seed
        self.kernel_penalty, self.kernel_labels = kernel_penalty, kernel_labels

    def _attack(self, model: nn.Module, data: Data) -> PRBCDAttack:
        settings: dict[str, Any] = {
            "block_size": self.block_size,
            "epochs": self.epochs,
            "epochs_resampling": max(1, self.epochs * 4 // 5),
            "loss": self.loss,
            "log": False,
        }
        if not self.kernel_penalty:
            return PRBCDAttack(model, **settings)

        def complexity(edge_index: Tensor, edge_weight: Tensor) -> Tensor:
            return graph_kernel_complexity(
                edge_index,
                data.x,
                data.y,
                data.train_mask,
                edge_weight=edge_weight,
                labels=self.kernel_labels,
                solver="exact" if self.kernel_labels == "train" else "nystrom",
            ).to(edge_weight.dtype)

        return _Penalized(model, **settings, penalty=self.kernel_penalty, complexity=complexity)

    def forward(self, data: Data) -> Data:
        budget = perturbation_budget(data, self.rate)
        model = train_surrogate(data, seed=self.seed) if self.model is None else self.model
        mask = None if self.nodes == "all" else data[f"{self.nodes}_mask"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            attack = self._attack(model, data)
            # PyG's settings are one dictionary for all attacks: what is set on one would be set on all.
            attack.coeffs = copy.deepcopy(type(attack).coeffs)
            edges = arcs_of(edges_of(data).pairs)
            index = None if mask is None else mask.nonzero().squeeze(1)
            perturbed, _ = attack.attack(data.x, edges, data.y, budget, index)
        pairs = undirected_edges(perturbed.to(edges.device), node_count(data)).pairs
        return with_edges(data, pairs, name=type(self).__name__.lower(), rate=self.rate)


class GRBCD(PRBCD):
    """Greedy randomized block coordinate descent, with PyG's implementation; arguments as for `PRBCD`."""

    def __init__(
        self,
        rate: float,
        *,
        model: nn.Module | None = None,
        nodes: Nodes = "test",
        loss: Loss = "masked",
        epochs: int = 125,
        block_size: int = 250_000,
        seed: int = 0,
    ) -> None:
        super().__init__(rate, model=model, nodes=nodes, loss=loss, epochs=epochs, block_size=block_size, seed=seed)

    def _attack(self, model: nn.Module, data: Data) -> PRBCDAttack:
        loss = self.loss
        if loss == "masked":
            # PyG's loss takes logarithms of probabilities.
            def loss(logits: Tensor, labels: Tensor, index: Tensor | None = None) -> Tensor:
                result: Tensor = GRBCDAttack._masked_cross_entropy(logits.log_softmax(-1), labels, index)
                return result

        return GRBCDAttack(model, block_size=self.block_size, epochs=self.epochs, loss=loss, log=False)
