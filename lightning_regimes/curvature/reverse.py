"""Products with the Hessian by differentiating the gradient once more, backwards."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from lightning_regimes.curvature.gradient_graph import INDEPENDENT, explained_failures, gradient_graph, graph_bytes
from lightning_regimes.probe import LossProbe, ProbeError


class Reverse:
    r""":math:`H v = \nabla_\theta \langle \nabla L(\theta), v \rangle`, over the batches of this process.

    The graph of the gradient is kept for as many batches as ``max_cache_bytes`` allows; the others are evaluated again
    for each product. To be used inside ``probe.isolated()``.

    Args:
        probe: the loss.
        max_cache_bytes: bound on what the graphs hold together; ``None`` for half of the device's free memory.

    References:
        B. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994),
        doi:10.1162/neco.1994.6.1.147.
    """

    def __init__(self, probe: LossProbe, max_cache_bytes: int | None) -> None:
        self._probe = probe
        self._leaves = list(probe.parameters.values())
        indices = [index for index, weight in enumerate(probe.weights) if weight > 0]
        if len(indices) <= 1 and max_cache_bytes is None:
            kept = indices
        else:
            available = _default_cache_bytes(probe.device) if max_cache_bytes is None else max_cache_bytes
            kept = self._within(available, indices)
        #: The weighted gradients of the batches that are kept, with their graphs, one entry a leaf.
        self.graphs = [gradient_graph(probe, index) for index in kept]
        self._recomputed = [index for index in indices if index not in kept]
        self._is_connected = not indices or any(_is_connected(graph) for graph in self.graphs)
        if not self._recomputed:
            self._require_connected()

    def gradient(self) -> Tensor | None:
        """Return the weighted gradient over the batches that are kept, shape (n,); ``None`` if there are none."""
        total: Tensor | None = None
        for graph in self.graphs:
            part = self._probe.flatten([None if gradient is None else gradient.detach() for gradient in graph])
            total = part if total is None else total.add_(part)
        return total

    def product(self, vector: Tensor) -> Tensor:
        """Return H v, shape (n,)."""
        pieces = self._probe.unflatten(vector)
        total = self._differentiated(self.graphs, pieces, keep=True)
        for index in self._recomputed:
            graph = gradient_graph(self._probe, index)
            self._is_connected = self._is_connected or _is_connected(graph)
            total.add_(self._differentiated([graph], pieces, keep=False))
        self._require_connected()
        return total

    def _within(self, available: float, indices: list[int]) -> list[int]:
        weights = self._probe.weights
        kept: list[int] = []
        if not indices:
            return kept
        first_bytes = graph_bytes(self._probe, indices[0])
        for index in indices:
            # Activations grow with the number of samples, and with it the weight; a smaller batch is taken as equal,
            # since the part of the parameters does not shrink.
            available -= first_bytes * max(1.0, weights[index] / weights[indices[0]])
            if available < 0:
                break
            kept.append(index)
        return kept

    def _differentiated(self, graphs: list[list[Tensor | None]], pieces: list[Tensor], *, keep: bool) -> Tensor:
        # One call for all batches: autograd adds them up where they meet, and no product of a batch is ever stored.
        pairs = [
            (gradient, piece)
            for graph in graphs
            for gradient, piece in zip(graph, pieces, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        if not pairs:
            return torch.zeros(self._probe.num_parameters, dtype=self._probe.dtype, device=self._probe.device)
        outputs, directions = zip(*pairs, strict=True)
        with explained_failures():
            products = torch.autograd.grad(
                outputs, self._leaves, grad_outputs=directions, retain_graph=keep, allow_unused=True
            )
        return self._probe.flatten(products)

    def _require_connected(self) -> None:
        if not self._is_connected:
            raise ProbeError(INDEPENDENT)


def _is_connected(graph: list[Tensor | None]) -> bool:
    return any(gradient is not None for gradient in graph)


def _default_cache_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (AttributeError, ValueError, OSError):  # not a POSIX system, or one that does not say
        return 2.0**30
