"""Attacks by gradients on the whole adjacency matrix, for small graphs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from lightning_regimes.graph.attack_report import check_rate, flipped, perturbation_budget
from lightning_regimes.graph.edge_mask import edges_of, node_count
from lightning_regimes.graph.target_source import check_labels

#: A dense float32 matrix of this many nodes is 1 GiB.
MOST_NODES = 16_000


def dense_adjacency(data: Data) -> Tensor:
    """Return the adjacency matrix without self-loops in float32.

    Raises:
        ValueError: the graph is too large for it.
    """
    count = node_count(data)
    if count > MOST_NODES:
        raise ValueError(f"this attack takes at most {MOST_NODES} nodes, got {count}: use PRBCD")
    adjacency = torch.zeros(count, count, device=data.edge_index.device)
    first, second = edges_of(data).pairs.T
    adjacency[first, second] = 1
    adjacency[second, first] = 1
    return adjacency


def linear_logits(adjacency: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    r"""Return :math:`\hat A^2 X W` with the symmetric normalisation of A with self-loops."""
    scale = (adjacency.sum(1) + 1).rsqrt()[:, None]
    hidden = x @ weight
    for _ in range(2):
        scaled = scale * hidden
        hidden = scale * (adjacency @ scaled + scaled)
    return hidden


def tanh_margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return for each row how much another class leads, from -1 to 1: nodes that are lost already count no more."""
    scores = logits.log_softmax(-1)
    own = torch.nn.functional.one_hot(labels, logits.shape[1]).bool()
    best_other = scores.masked_fill(own, -torch.inf).max(1).values
    return (best_other - scores[own]).tanh()


class _DenseAttack(BaseTransform):
    """Common arguments: rate, steps and seed, with a linear surrogate on known and guessed labels."""

    def __init__(self, rate: float, *, steps: int, seed: int) -> None:
        check_rate(rate)
        if steps < 1:
            raise ValueError(f"`steps` is at least 1, got {steps}")
        self.rate, self.steps, self.seed = rate, steps, seed

    def _fit(self, adjacency: Tensor, data: Data, *, epochs: int = 100) -> Tensor:
        """Train the weights of the surrogate on the training nodes, shape (features, classes)."""
        generator = torch.Generator().manual_seed(self.seed)
        num_classes = int(data.y[data.train_mask].max()) + 1
        start = torch.randn(data.x.shape[1], num_classes, generator=generator) / math.sqrt(data.x.shape[1])
        with torch.no_grad():
            aggregated = linear_logits(adjacency, data.x.float(), torch.eye(data.x.shape[1], device=data.x.device))
        with torch.enable_grad():
            weight = start.to(data.x.device).requires_grad_()
            optimizer = torch.optim.Adam([weight], lr=0.1, weight_decay=5e-4)
            for _ in range(epochs):
                optimizer.zero_grad()
                logits = aggregated[data.train_mask] @ weight
                nn.functional.cross_entropy(logits, data.y[data.train_mask]).backward()
                optimizer.step()
        return weight.detach()

    def _self_training_labels(self, adjacency: Tensor, data: Data) -> Tensor:
        weight = self._fit(adjacency, data)
        labels = linear_logits(adjacency, data.x.float(), weight).argmax(1)
        labels[data.train_mask] = data.y[data.train_mask]
        return labels


class PGD(_DenseAttack):
    r"""Projected gradient ascent on relaxed changes of all entries, then the best of some random roundings.

    The changes s in [0, 1] with sum at most the budget raise the tanh margin of a linear two-layer surrogate on its own
    guesses for nodes that are not for training. Test labels are not read.

    Args:
        rate: number of changes as a share of the edges.
        steps: of the ascent.
        learning_rate: of the first step, falling with the root of the step.
        samples: number of roundings.
        seed: of the surrogate and the roundings.

    References:
        Xu et al., Topology Attack and Defense for Graph Neural Networks, arXiv:1906.04214.
    """

    def __init__(
        self, rate: float, *, steps: int = 50, learning_rate: float = 200.0, samples: int = 10, seed: int = 0
    ) -> None:
        super().__init__(rate, steps=steps, seed=seed)
        self.learning_rate, self.samples = learning_rate, samples

    def forward(self, data: Data) -> Data:
        check_labels(data.y, data.train_mask)
        adjacency, budget = dense_adjacency(data), perturbation_budget(data, self.rate)
        labels, weight = self._self_training_labels(adjacency, data), self._fit(adjacency, data)
        features, targets = data.x.float(), ~data.train_mask
        sign = 1 - 2 * adjacency

        def loss(changes: Tensor) -> Tensor:
            symmetric = changes.triu(1)
            logits = linear_logits(adjacency + sign * (symmetric + symmetric.T), features, weight)
            return tanh_margin(logits[targets], labels[targets]).mean()

        changes = torch.zeros_like(adjacency)
        for step in range(self.steps):
            changes.requires_grad_()
            (gradient,) = torch.autograd.grad(loss(changes), changes)
            changes = changes.detach() + self.learning_rate / math.sqrt(step + 1) * gradient.triu(1)
            changes = project(changes, budget)
        chosen = self._round(changes, budget, loss)
        return flipped(data, chosen, name="pgd", rate=self.rate)

    def _round(self, changes: Tensor, budget: int, loss: object) -> Tensor:
        assert callable(loss)
        generator = torch.Generator(device=changes.device).manual_seed(self.seed)
        largest = changes.flatten().topk(budget).indices
        best, best_loss = largest, -math.inf
        for sample in range(self.samples + 1):
            index = largest
            if sample:
                index = torch.bernoulli(changes, generator=generator).flatten().nonzero().squeeze(1)
            if len(index) > budget:
                continue
            with torch.no_grad():
                value = float(loss(torch.zeros_like(changes).flatten().index_fill(0, index, 1.0).view_as(changes)))
            if value > best_loss:
                best, best_loss = index, value
        return torch.stack([best // len(changes), best % len(changes)], dim=1)


def project(values: Tensor, budget: float, *, steps: int = 40) -> Tensor:
    """Return the nearest point of the box [0, 1] whose sum is at most the budget."""
    clipped = values.clamp(0, 1)
    if float(clipped.sum()) <= budget:
        return clipped
    low, high = float(values.min()) - 1, float(values.max())
    for _ in range(steps):
        middle = (low + high) / 2
        if float((values - middle).clamp(0, 1).sum()) > budget:
            low = middle
        else:
            high = middle
    return (values - high).clamp(0, 1)


class MetattackLite(_DenseAttack):
    """Greedy changes by approximate meta-gradients: what would the trained surrogate do wrong, several at a time.

    Each step trains the linear surrogate on the changed graph anew, takes the gradient of its loss on the labels that
    it guessed on the clean graph at fixed weights, and flips the entries that raise it most. The gradient through the
    training is left out, and several entries flip at once: weaker and much faster than the original.

    Args:
        rate: number of changes as a share of the edges.
        steps: number of surrogates.
        train_weight: share of the loss on training labels, the rest is on guessed labels.
        seed: of the surrogates.

    References:
        Zügner, Günnemann, Adversarial Attacks on Graph Neural Networks via Meta Learning, arXiv:1902.08412.
    """

    def __init__(self, rate: float, *, steps: int = 20, train_weight: float = 0.0, seed: int = 0) -> None:
        super().__init__(rate, steps=steps, seed=seed)
        if not 0 <= train_weight <= 1:
            raise ValueError(f"`train_weight` is from 0 to 1, got {train_weight}")
        self.train_weight = train_weight

    def forward(self, data: Data) -> Data:
        check_labels(data.y, data.train_mask)
        adjacency, budget = dense_adjacency(data), perturbation_budget(data, self.rate)
        labels, features = self._self_training_labels(adjacency, data), data.x.float()
        is_changed = torch.zeros_like(adjacency, dtype=torch.bool)
        chosen: list[Tensor] = []
        for step in range(self.steps):
            count = budget * (step + 1) // self.steps - sum(map(len, chosen))
            if not count:
                continue
            weight = self._fit(adjacency, data)
            adjacency.requires_grad_()
            logits = linear_logits(adjacency, features, weight)
            losses = tanh_margin(logits, labels)
            loss = (1 - self.train_weight) * losses[~data.train_mask].mean()
            loss = loss + self.train_weight * losses[data.train_mask].mean()
            (gradient,) = torch.autograd.grad(loss, adjacency)
            adjacency = adjacency.detach()
            gain = (gradient + gradient.T) * (1 - 2 * adjacency)
            gain = gain.masked_fill(is_changed | ~torch.ones_like(is_changed).triu(1), -torch.inf)
            # A node without an edge would no longer be part of the graph.
            is_last = (adjacency > 0) & ((adjacency.sum(1)[:, None] <= 1) | (adjacency.sum(1) <= 1))
            index = gain.masked_fill(is_last, -torch.inf).flatten().topk(count).indices
            pairs = torch.stack([index // len(gain), index % len(gain)], dim=1)
            for first, second in (pairs.T, pairs.T.flip(0)):
                adjacency[first, second] = 1 - adjacency[first, second]
                is_changed[first, second] = True
            chosen.append(pairs)
        flips = torch.cat(chosen) if chosen else edges_of(data).pairs[:0]
        return flipped(data, flips, name="metattack-lite", rate=self.rate)
