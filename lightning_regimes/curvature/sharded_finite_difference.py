"""Products with the Hessian of a module whose parameters are sharded over processes by FSDP2."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_regimes.batches import map_tensors, num_samples
from lightning_regimes.curvature.finite_difference import CentralDifference
from lightning_regimes.curvature.gradient_graph import INDEPENDENT
from lightning_regimes.curvature.linear_operator import columnwise, require_operand
from lightning_regimes.curvature.sharded_parameters import (
    own_part,
    refuse_accumulation,
    reshard,
    sharded_parameters,
)
from lightning_regimes.isolation import Mode, Slot, isolated
from lightning_regimes.loss_source import LossFunction, find_loss
from lightning_regimes.module_state import ProbeError
from lightning_regimes.processes import Processes


class ShardedHessianOperator:
    r"""The Hessian :math:`H = \nabla^2 L(\theta)` of a module under ``torch.distributed.fsdp.fully_shard``.

    .. math:: L(\theta) = \sum_{p, b} w_{p b} L_{p b}(\theta), \qquad \sum_{p, b} w_{p b} = 1

    over the batches b of all processes p. A sharded module has first derivatives only, by ``backward()``, so that a
    product is the :class:`~lightning_regimes.curvature.finite_difference.CentralDifference` of four gradients, each at
    a cost of one training step without the optimizer. It means something for smooth losses only.

    Vectors are whole, shape (n,), on every process and the same there to the last bit; their elements are those of the
    parameters that require a gradient, in the order of ``module.named_parameters()``. Shards are moved in place and
    put back from copies. Parameters, their gradients, buffers, modes and random generators are afterwards as before.
    The operator stays at the parameters and buffers of the moment at which it was made.

    All processes must make the operator together and ask for the same products. An error in the loss of one process
    is an error in all, unless it arises between the messages of FSDP's own forward pass, which then wait for it.

    Args:
        module: sharded over a mesh of one dimension, with all its trainable parameters in float32 or in float64.
        batches: those of this process, of any structure. Processes may have different numbers of batches.
        loss: ``loss(module, batch)`` returning a scalar, the mean over the batch. Default: as in
            :class:`~lightning_regimes.LossProbe`.
        weights: one non-negative number per batch in place of the number of samples.
        mode: ``"eval"`` evaluates as for validation; ``"train"`` uses the statistics of the batch in normalisation
            layers, still without dropout.
        seed: state of the random generators at each evaluation.

    Raises:
        ValueError: no batches, unusable weights, or no parameter that requires a gradient.
        TypeError: no source for the loss, or parameters of several or other dtypes.
        ProbeError: there is no process group, a parameter is not sharded or on another mesh than the others, FSDP
            holds gradients back to accumulate them, the loss is not finite, or the finite differences disagree.

    References:
        B. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994), section 2, on what
        differences of gradients lose to rounding, doi:10.1162/neco.1994.6.1.147.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: Sequence[Any],
        *,
        loss: LossFunction | None = None,
        weights: Sequence[float] | None = None,
        mode: Mode = "eval",
        seed: int = 0,
    ) -> None:
        if mode not in ("eval", "train"):
            raise ValueError(f"`mode` is 'eval' or 'train', got {mode!r}")
        if not dist.is_initialized():
            raise ProbeError(
                "there is no process group, and so no sharded module: call `torch.distributed.init_process_group` and "
                "`fully_shard` first, or use HessianOperator"
            )
        self._module, self._mode, self._seed = module, mode, seed
        self._evaluate, self._loss_source = find_loss(module, loss)
        self._depth, self._stack = 0, contextlib.ExitStack()
        self._slots: list[Slot] = []
        #: Number of products with a vector so far.
        self.num_matvecs = 0
        reshard(module)
        self._parameters = sharded_parameters(module)
        first = self._parameters[0]
        self._processes = Processes(first.device_mesh.get_group())
        self._sizes = [parameter.numel() for parameter in self._parameters]
        self._dtype, self._device = first.dtype, first.to_local().device
        self._set_batches(batches, weights)
        self._point = self._shards()
        self._buffers = {path: buffer.detach().clone() for path, buffer in module.named_buffers(remove_duplicate=False)}
        with self.isolated():
            self._gradient = self._gradient_here()
            squares = torch.stack([shard.double().square().sum() for shard in self._point]).sum()
            total = self._processes.sum(lambda: squares, shape=(), dtype=torch.float64, device=self._device)
            self._differences = CentralDifference(
                self._gradient_at,
                gradient=self._gradient,
                norm=float(total.sqrt()),
                remedy="smooth activations such as GELU or tanh, or a module in float64",
            )

    def _set_batches(self, batches: Sequence[Any], weights: Sequence[float] | None) -> None:
        def own_weights() -> list[float]:
            if isinstance(batches, Tensor | Mapping | str) or len(batches) == 0:
                raise ValueError("`batches` is a non-empty sequence of training batches, in every process")
            own = [float(num_samples(batch)) for batch in batches] if weights is None else list(map(float, weights))
            if len(own) != len(batches) or not all(0 <= weight < float("inf") for weight in own):
                raise ValueError(f"`weights` is one non-negative number for each of {len(batches)} batches, got {own}")
            return own

        everywhere = self._processes.collect(own_weights)
        total = sum(map(sum, everywhere))
        if not total > 0:
            raise ValueError(f"`weights` are not all zero, got {everywhere}")
        self._batches = [map_tensors(batch, lambda tensor: tensor.detach().to(self._device)) for batch in batches]
        own = [weight / total for weight in everywhere[self._processes.rank]]
        # A pass of a sharded module takes all processes: those with fewer batches repeat one that counts for nothing.
        rounds = max(map(len, everywhere))
        self._rounds = [*enumerate(own), *[(0, 0.0)] * (rounds - len(own))]

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)`` with n the number of parameters, those of all shards together."""
        return sum(self._sizes), sum(self._sizes)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters."""
        return self._dtype

    @property
    def device(self) -> torch.device:
        """Device of the shards of this process."""
        return self._device

    def start_vector(self) -> Tensor:
        """Return the gradient, shape (n,), which lies largely in the span of the leading eigenvectors."""
        return self._gradient

    def isolated(self) -> AbstractContextManager[None]:
        """Hold the module at the operator's parameters over several products, each of which is then cheaper."""
        return self._isolated()

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return H v for a vector (n,), or H V column by column for a matrix (n, m); the same in all processes.

        Raises:
            TypeError: the tensor has another dtype than the operator.
            ValueError: it has another shape or is on another device.
            ProbeError: the loss is not finite near the parameters, or its finite differences disagree.
        """
        require_operand(self, other)
        with self.isolated():
            return columnwise(self._product, other)

    def _product(self, vector: Tensor) -> Tensor:
        product = self._differences.product(vector)
        self.num_matvecs += 1
        return product

    @contextlib.contextmanager
    def _isolated(self) -> Iterator[None]:
        if self._depth == 0:
            self._stack = self._entered()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._stack.close()

    def _entered(self) -> contextlib.ExitStack:
        with contextlib.ExitStack() as stack:
            # Whole parameters that FSDP still holds are neither what is moved nor what is put back.
            reshard(self._module)
            refuse_accumulation(self._module)
            shards, gradients = self._shards(), [parameter.grad for parameter in self._parameters]
            slots = stack.enter_context(isolated(self._module, mode=self._mode, device=self._device, dtype=self._dtype))
            self._slots = [slot for slot in slots if slot.path in self._buffers]

            def put_back() -> None:
                self._move(shards)
                for parameter, gradient in zip(self._parameters, gradients, strict=True):
                    parameter.grad = gradient

            stack.callback(put_back)
            self._move(self._point)
            return stack.pop_all()

    def _shards(self) -> list[Tensor]:
        return [parameter.to_local().detach().clone() for parameter in self._parameters]

    def _move(self, shards: Sequence[Tensor]) -> None:
        with torch.no_grad():
            for parameter, shard in zip(self._parameters, shards, strict=True):
                parameter.to_local().copy_(shard)
        reshard(self._module)

    def _gradient_at(self, vector: Tensor, step: float) -> Tensor:
        pieces = vector.split(self._sizes)
        self._move(
            [
                torch.add(shard, own_part(piece.view(parameter.shape), parameter), alpha=step)
                for shard, piece, parameter in zip(self._point, pieces, self._parameters, strict=True)
            ]
        )
        return self._gradient_here()

    def _gradient_here(self) -> Tensor:
        for parameter in self._parameters:
            parameter.grad = None
        for index, weight in self._rounds:
            # FSDP takes the mean over processes of what are parts of a sum.
            (self._agreed_loss(index) * (weight * self._processes.count)).backward()
        gradients: list[Any] = [parameter.grad for parameter in self._parameters]
        if all(gradient is None for gradient in gradients):
            raise ProbeError(INDEPENDENT)
        return torch.cat(
            [
                torch.zeros(size, dtype=self._dtype, device=self._device)
                if gradient is None
                else gradient.full_tensor().reshape(-1)
                for gradient, size in zip(gradients, self._sizes, strict=True)
            ]
        )

    def _agreed_loss(self, index: int) -> Tensor:
        """Return the loss of a batch; raise in all processes what is wrong with it in one."""
        value = torch.zeros(())

        def own() -> Tensor:
            nonlocal value
            value = self._batch_loss(index)
            return value.detach().double()

        total = self._processes.sum(own, shape=(), dtype=torch.float64, device=self._device)
        if not bool(torch.isfinite(total)):
            raise ProbeError("the loss of a batch is not finite in one of the processes; there is no curvature here")
        return value

    def _batch_loss(self, index: int) -> Tensor:
        torch.manual_seed(self._seed + index)
        np.random.seed((self._seed + index) % 2**32)
        random.seed(self._seed + index)
        for slot in self._slots:
            slot.fill(self._buffers[slot.path].clone())
        output = self._evaluate(self._module, map_tensors(self._batches[index], lambda tensor: tensor.clone()))
        value = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ProbeError(
                f"`{self._loss_source}` must return the loss as a tensor of one number with a graph, or a dictionary "
                f"that holds it under 'loss', got {type(output).__name__}"
            )
        return value.reshape(())
