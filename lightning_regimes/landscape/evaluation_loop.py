"""The loss at one point after another."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_regimes.batches import map_tensors, tensors_of
from lightning_regimes.landscape.normalization_statistics import recomputed_statistics
from lightning_regimes.landscape.side_effects import Repetition, SideEffects, batch_values
from lightning_regimes.probe import LossProbe, weighted_sum

Derivatives = Literal["none", "inner", "all"]

_MAX_COPIED_BYTES = 64 * 2**20


class LoopEvaluation:
    r"""Evaluates the loss at :math:`\theta + V x`, one point x at a time.

    The parameters are views of one vector, so that a move to another point is a single product. As long as the loss
    draws no random numbers and changes nothing, as is checked for each chunk, nothing is put back between two points.
    At x = 0 the loss is that of the probe to the last bit.

    Args:
        probe: the loss and the point.
        vectors: the directions as columns, shape (num_parameters, d).
        derivatives: which derivatives are kept track of, see :func:`needed_derivatives`.
        recompute: the running statistics of normalisation layers at each point.
    """

    def __init__(
        self,
        probe: LossProbe,
        vectors: Tensor,
        *,
        derivatives: Derivatives,
        recompute: bool = False,
    ) -> None:
        self._probe = probe
        self._vectors = vectors.T.contiguous().T
        self._derivatives = derivatives
        self._recompute = recompute
        self._origin = probe.point()
        flat = self._origin.clone()
        leaves = probe.unflatten(flat)
        pieces = flat.split([leaf.numel() for leaf in leaves])
        # A complex parameter at an odd place is a copy, which has to follow.
        self._copies = [
            (leaf.data, piece.view_as(leaf).data)
            for leaf, piece in zip(leaves, pieces, strict=True)
            if leaf.data_ptr() != piece.data_ptr()
        ]
        self._leaves = [leaf.requires_grad_(derivatives == "all") for leaf in leaves]
        # Through `data`, it leaves no mark in the versions, by which the probe tells that a loss moved a parameter.
        self._flat = flat.data
        self._batches: list[Any] | None = None
        self._side_effects: SideEffects | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Set the module up for :meth:`losses`."""
        with self._probe.moved(self._leaves), torch.set_grad_enabled(self._derivatives != "none"):
            self._batches = self._small_batches() if not self._recompute else None
            self._side_effects = None if self._batches is None else SideEffects(self._probe, self._batches)
            yield

    def losses(self, coefficients: Tensor) -> Tensor:
        """Return the part of the loss that belongs to this process at each row, shape (points,), float64."""
        values = [value for row in coefficients.unbind() for value in self._batch_values(row)]
        if self._side_effects is not None and self._side_effects.found():
            self._batches = self._side_effects = None
            values = [value for row in coefficients.unbind() for value in self._batch_values(row)]
        table = torch.stack(values).double().view(len(coefficients), self._probe.num_batches)
        return weighted_sum(self._probe.weights, table.unbind(1))

    def _batch_values(self, coefficients: Tensor) -> list[Tensor]:
        torch.addmv(self._origin, self._vectors, coefficients, out=self._flat)
        for copy, piece in self._copies:
            copy.copy_(piece)
        if not self._recompute:
            return self._values()
        with self._probe.replaced(recomputed_statistics(self._probe)):
            return self._values()

    def _values(self) -> list[Tensor]:
        if self._batches is not None:
            # The same tensors in new containers, which the loss may do with as it likes.
            values = [self._probe.bare_value(map_tensors(batch, _itself)) for batch in self._batches]
        else:
            values = [self._probe.batch_value(index) for index in range(self._probe.num_batches)]
        # A graph would be kept until the end of the chunk.
        return values if self._derivatives == "none" else [value.detach() for value in values]

    def _small_batches(self) -> list[Any] | None:
        """Return copies of the batches; ``None`` if they are large, or on a device whose generators are not watched."""
        if self._probe.device.type not in ("cpu", "cuda"):
            return None
        batches: list[Any] = []
        num_bytes = 0
        for index in range(self._probe.num_batches):
            batches.append(self._probe.batch(index))
            num_bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors_of(batches[-1]))
            if num_bytes > _MAX_COPIED_BYTES:
                return None
        return batches


def _itself(tensor: Tensor) -> Tensor:
    return tensor


def needed_derivatives(probe: LossProbe) -> Derivatives:
    """Return how much of autograd the loss needs to be evaluated.

    ``"none"`` where it is the same, to the last bit, without gradients; ``"inner"`` where it needs those of its own
    variables, as the residual of a differential equation; ``"all"`` where it needs the parameters' as well, as a
    penalty on the gradient. To be called inside ``probe.isolated()``.

    Raises:
        ProbeError: the loss cannot be evaluated, or has state of its own.
    """
    probed = Repetition(probe, lambda: batch_values(probe))
    probed.require()
    modes: tuple[Derivatives, ...] = ("none", "inner")
    for derivatives in modes:
        loop = LoopEvaluation(probe, probe.point()[:, None], derivatives=derivatives)
        try:
            with loop.held():
                values = batch_values(probe)
        except Exception:  # whatever it lacks, the next mode may give it
            continue
        if torch.allclose(values, probed.values, rtol=0.0, atol=0.0, equal_nan=True):
            return derivatives
    return "all"
