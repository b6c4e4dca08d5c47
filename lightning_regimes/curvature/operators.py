"""Curvature of the loss at a point as an operator that is applied and never stored."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from lightning_regimes.curvature.finite_difference import FiniteDifference
from lightning_regimes.curvature.forward_over_reverse import ForwardOverReverse
from lightning_regimes.curvature.linear_operator import columnwise, require_operand
from lightning_regimes.curvature.reverse import Reverse
from lightning_regimes.probe import LossProbe, ProbeError

Engine = Literal["auto", "reverse", "forward_over_reverse", "finite_difference"]


class HessianOperator:
    r"""The Hessian :math:`H = \nabla^2 L(\theta)` of a probe's loss.

    ``engine="reverse"`` differentiates the gradient once more:

    .. math:: H v = \nabla_\theta \langle \nabla L(\theta), v \rangle

    The graph of the gradient is kept, so that a product costs about half to two thirds of one that starts from the
    loss. As many batches are kept as fit into ``max_cache_bytes``; the others are evaluated again for each product.
    The graphs are let go by :meth:`close`, at the end of a ``with`` block, or with the operator.

    ``engine="forward_over_reverse"`` is as exact, keeps no graph, and takes about two to three times as long. Some
    operations have no forward derivative; they are an error. ``engine="finite_difference"`` takes the difference of
    gradients nearby: for losses without second derivatives, and for smooth ones only, since a network with kinks, as
    from ReLU, has no finite differences that mean anything. It compares two step sizes and raises where they disagree.

    Over several processes (see :class:`~lightning_regimes.LossProbe`), a product takes one all-reduce, and all
    processes must ask for it.

    Args:
        probe: where the loss is looked at, and on which batches.
        engine: see above; ``"auto"`` is ``"reverse"``, and never anything that is not exact.
        max_cache_bytes: bound on what the graphs of ``"reverse"`` hold together. Default: half of the device's free
            memory, and in any case the graph of a single batch, since a product needs it whole anyway.

    Raises:
        ValueError: an unknown engine, or a bound that is negative or that the engine has no use for.
        ProbeError: the loss is not finite, does not depend on the parameters, or cannot be differentiated twice.

    References:
        B. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994),
        doi:10.1162/neco.1994.6.1.147.
    """

    def __init__(self, probe: LossProbe, *, engine: Engine = "auto", max_cache_bytes: int | None = None) -> None:
        if engine not in get_args(Engine):
            raise ValueError(f"`engine` is one of {', '.join(get_args(Engine))}, got {engine!r}")
        if max_cache_bytes is not None and max_cache_bytes < 0:
            raise ValueError(f"`max_cache_bytes` must not be negative, got {max_cache_bytes}")
        if max_cache_bytes is not None and engine not in ("auto", "reverse"):
            raise ValueError(f"`max_cache_bytes` is for the engine 'reverse'; {engine!r} keeps no graphs")
        self._probe = probe
        self._engine: _Products | None = None
        #: Number of products with a vector so far.
        self.num_matvecs = 0
        self._start: Tensor | None = None
        if probe.processes.count == 1:
            with probe.isolated():
                self._engine = _products(probe, engine, max_cache_bytes)
            return

        def own_start() -> Tensor:
            self._engine = _products(probe, engine, max_cache_bytes)
            gradient = self._engine.gradient()
            return torch.zeros(self.shape[0], dtype=self.dtype, device=self.device) if gradient is None else gradient

        # Now rather than when it is asked for: how many batches are kept depends on the memory of each process.
        with probe.isolated():
            self._start = probe.sum(own_start)

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
        """Number of batches whose gradient graph is kept, in this process."""
        return len(self._engine.graphs) if isinstance(self._engine, Reverse) else 0

    def isolated(self) -> AbstractContextManager[None]:
        """Hold the module at the probe's parameters over several products, each of which is then cheaper."""
        return self._probe.isolated()

    def start_vector(self) -> Tensor | None:
        """Return the gradient over the batches that are kept, ``None`` if there are none.

        It costs nothing, being there, and lies largely in the span of the leading eigenvectors (G. Gur-Ari, D. Roberts,
        E. Dyer, Gradient descent happens in a tiny subspace, arXiv:1812.04754), which saves a solver some products.
        """
        if self._engine is None or self._start is not None:
            return self._start
        return self._engine.gradient()

    def close(self) -> None:
        """Let go of the graphs; the operator cannot be applied any more."""
        self._engine = self._start = None

    def __enter__(self) -> HessianOperator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return H v for a vector (n,), or H V column by column for a matrix (n, m).

        Raises:
            TypeError: the tensor has another dtype than the operator.
            ValueError: it has another shape or is on another device, or the operator is closed.
            ProbeError: the product is not finite, the loss cannot be differentiated twice, or its finite differences
                disagree.
        """
        require_operand(self, other)
        if self._engine is None:
            raise ValueError("the operator is closed and has let go of its graphs; make a new one")
        with self._probe.isolated():
            return columnwise(self._product, other)

    def _product(self, vector: Tensor) -> Tensor:
        engine = self._engine
        assert engine is not None
        total = self._probe.sum(lambda: engine.product(vector))
        self.num_matvecs += 1
        if not bool(torch.isfinite(total.sum())) and not bool(torch.isfinite(total).all()):
            raise ProbeError(
                "the product of the Hessian with a vector is not finite; the loss has no second derivative at these "
                "parameters (a square root or a norm at zero, for instance), or overflows: try `dtype=torch.float64`"
            )
        return total


class _Products(Protocol):
    """An engine: the part of the batches of this process in gradient and products."""

    def gradient(self) -> Tensor | None: ...

    def product(self, vector: Tensor) -> Tensor: ...


def _products(probe: LossProbe, engine: Engine, max_cache_bytes: int | None) -> _Products:
    if engine == "forward_over_reverse":
        return ForwardOverReverse(probe)
    if engine == "finite_difference":
        return FiniteDifference(probe)
    return Reverse(probe, max_cache_bytes)
