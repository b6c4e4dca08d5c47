"""Curvature of the loss at a point as an operator that is applied and never stored."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Tensor

from lightning_regimes.curvature.gradient_graph import explained_failures, gradient_graph, graph_bytes
from lightning_regimes.curvature.linear_operator import columnwise, require_operand
from lightning_regimes.probe import LossProbe, ProbeError

Engine = Literal["auto", "reverse"]


class HessianOperator:
    r"""The Hessian :math:`H = \nabla^2 L(\theta)` of a probe's loss.

    ``engine="reverse"`` differentiates the gradient once more:

    .. math:: H v = \nabla_\theta \langle \nabla L(\theta), v \rangle

    The graph of the gradient is kept, so that a product costs about half to two thirds of one that starts from the
    loss. As many batches are kept as fit into ``max_cache_bytes``; the others are evaluated again for each product.
    The graphs are let go by :meth:`close`, at the end of a ``with`` block, or with the operator.

    Args:
        probe: where the loss is looked at, and on which batches.
        engine: ``"reverse"``, or ``"auto"`` which is the same.
        max_cache_bytes: bound on what the graphs hold together. Default: half of the device's free memory, and in any
            case the graph of a single batch, since a product needs it whole anyway.

    Raises:
        ValueError: an unknown engine or a negative bound.
        ProbeError: the loss is not finite, does not depend on the parameters, or cannot be differentiated twice.

    References:
        B. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994),
        doi:10.1162/neco.1994.6.1.147.
    """

    def __init__(self, probe: LossProbe, *, engine: Engine = "auto", max_cache_bytes: int | None = None) -> None:
        if engine not in ("auto", "reverse"):
            raise ValueError(f"`engine` is 'auto' or 'reverse', got {engine!r}")
        if max_cache_bytes is not None and max_cache_bytes < 0:
            raise ValueError(f"`max_cache_bytes` must not be negative, got {max_cache_bytes}")
        self._probe = probe
        self._leaves = list(probe.parameters.values())
        self._graphs: list[list[Tensor | None]] = []
        self._recomputed: list[int] = []
        self._is_connected = False
        self._is_closed = False
        #: Number of products with a vector so far.
        self.num_matvecs = 0
        with probe.isolated():
            self._build(max_cache_bytes)

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)`` with n the number of real parameters."""
        return self._probe.num_parameters, self._probe.num_parameters

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the probe."""
        return self._probe.dtype

    @property
    def device(self) -> torch.device:
        """Device of the probe."""
        return self._probe.device

    @property
    def num_cached_batches(self) -> int:
        """Number of batches whose gradient graph is kept."""
        return len(self._graphs)

    def isolated(self) -> AbstractContextManager[None]:
        """Hold the module at the probe's parameters over several products, each of which is then cheaper."""
        return self._probe.isolated()

    def start_vector(self) -> Tensor | None:
        """Return the gradient over the batches that are kept, ``None`` if there are none.

        It costs nothing, being there, and lies largely in the span of the leading eigenvectors (G. Gur-Ari, D. Roberts,
        E. Dyer, Gradient descent happens in a tiny subspace, arXiv:1812.04754), which saves a solver some products.
        """
        total: Tensor | None = None
        for graph in self._graphs:
            part = self._probe.flatten([None if gradient is None else gradient.detach() for gradient in graph])
            total = part if total is None else total.add_(part)
        return total

    def close(self) -> None:
        """Let go of the graphs; the operator cannot be applied any more."""
        self._graphs = []
        self._is_closed = True

    def __enter__(self) -> HessianOperator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return H v for a vector (n,), or H V column by column for a matrix (n, m).

        Raises:
            TypeError: the tensor has another dtype than the operator.
            ValueError: it has another shape or is on another device, or the operator is closed.
            ProbeError: the product is not finite, or the loss cannot be differentiated twice.
        """
        require_operand(self, other)
        if self._is_closed:
            raise ValueError("the operator is closed and has let go of its graphs; make a new one")
        with self._probe.isolated():
            return columnwise(self._product, other)

    def _build(self, max_cache_bytes: int | None) -> None:
        probe = self._probe
        indices = [index for index, weight in enumerate(probe.weights) if weight > 0]
        if len(indices) == 1 and max_cache_bytes is None:
            kept = indices
        else:
            available = _default_cache_bytes(self.device) if max_cache_bytes is None else max_cache_bytes
            kept = self._within(available, indices)
        self._graphs = [gradient_graph(probe, index) for index in kept]
        self._recomputed = [index for index in indices if index not in kept]
        self._is_connected = any(_is_connected(graph) for graph in self._graphs)
        if not self._recomputed:
            self._require_connected()

    def _within(self, available: float, indices: list[int]) -> list[int]:
        weights = self._probe.weights
        first_bytes = graph_bytes(self._probe, indices[0])
        kept = []
        for index in indices:
            # Activations grow with the number of samples, and with it the weight; a smaller batch is taken as equal,
            # since the part of the parameters does not shrink.
            available -= first_bytes * max(1.0, weights[index] / weights[indices[0]])
            if available < 0:
                break
            kept.append(index)
        return kept

    def _product(self, vector: Tensor) -> Tensor:
        pieces = self._probe.unflatten(vector)
        total = self._differentiated(self._graphs, pieces, keep=True)
        for index in self._recomputed:
            graph = gradient_graph(self._probe, index)
            self._is_connected = self._is_connected or _is_connected(graph)
            total.add_(self._differentiated([graph], pieces, keep=False))
        self._require_connected()
        self.num_matvecs += 1
        if not bool(torch.isfinite(total.sum())) and not bool(torch.isfinite(total).all()):
            raise ProbeError(
                "the product of the Hessian with a vector is not finite; the loss has no second derivative at these "
                "parameters (a square root or a norm at zero, for instance), or overflows: try `dtype=torch.float64`"
            )
        return total

    def _differentiated(self, graphs: list[list[Tensor | None]], pieces: list[Tensor], *, keep: bool) -> Tensor:
        # One call for all batches: autograd adds them up where they meet, and no product of a batch is ever stored.
        pairs = [
            (gradient, piece)
            for graph in graphs
            for gradient, piece in zip(graph, pieces, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        if not pairs:
            return torch.zeros(self.shape[0], dtype=self.dtype, device=self.device)
        outputs, directions = zip(*pairs, strict=True)
        with explained_failures():
            products = torch.autograd.grad(
                outputs, self._leaves, grad_outputs=directions, retain_graph=keep, allow_unused=True
            )
        return self._probe.flatten(products)

    def _require_connected(self) -> None:
        if not self._is_connected:
            raise ProbeError(
                "the loss does not depend on any of the probed parameters; check that it is computed from registered "
                "submodules, and what `parameters` of the probe selects"
            )


def _is_connected(graph: list[Tensor | None]) -> bool:
    return any(gradient is not None for gradient in graph)


def _default_cache_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (AttributeError, ValueError, OSError):  # not a POSIX system, or one that does not say
        return 2.0**30
