"""The loss at many points at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_regimes.landscape.evaluation_loop import Derivatives
from lightning_regimes.probe import LossProbe, weighted_sum


class VmapEvaluation:
    r"""Evaluates the loss at :math:`\theta + V x` for all points x of a chunk at once, by ``torch.func.vmap``.

    It saves the time that it takes to start an operation, so that it pays for small networks on small batches, and on
    GPUs. What the loss does must not depend on values: no ``item()``, no running statistics in training mode, no
    ``torch.autograd.grad`` of the points. Its last bits are not those of a loss that is evaluated alone.

    Args:
        probe: the loss and the point.
        vectors: the directions as columns, shape (num_parameters, d).
        derivatives: as for :class:`~lightning_regimes.landscape.evaluation_loop.LoopEvaluation`.
    """

    def __init__(self, probe: LossProbe, vectors: Tensor, *, derivatives: Derivatives) -> None:
        self._probe = probe
        self._rows = vectors.T.contiguous()
        self._derivatives = derivatives
        self._origin = probe.point()
        self._shapes = [leaf.shape for leaf in probe.parameters.values()]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Set the module up for :meth:`losses`."""
        with self._probe.isolated(), torch.set_grad_enabled(self._derivatives != "none"):
            yield

    def losses(self, coefficients: Tensor) -> Tensor:
        """Return the part of the loss that belongs to this process at each row, shape (points,), float64.

        Raises:
            Exception: whatever the loss or ``vmap`` raises when they do not go together.
        """
        points = torch.addmm(self._origin, coefficients, self._rows)
        pieces = points.split([shape.numel() for shape in self._shapes], dim=1)
        leaves = [piece.reshape(-1, *shape).contiguous() for piece, shape in zip(pieces, self._shapes, strict=True)]
        losses: Tensor = torch.func.vmap(self._loss, randomness="same")(leaves)
        return losses.detach()

    def _loss(self, leaves: list[Tensor]) -> Tensor:
        with self._probe.moved(leaves):
            values = [self._probe.batch_value(index).double() for index in range(self._probe.num_batches)]
        return weighted_sum(self._probe.weights, values)
