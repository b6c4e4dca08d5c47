"""Diagonal blocks of the Hessian, each an operator on the parameters of one layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from lightning_regimes.curvature.gradient_graph import explained_failures, gradient_graph
from lightning_regimes.curvature.linear_operator import columnwise, require_operand
from lightning_regimes.curvature.stability import HasParamGroups
from lightning_regimes.probe import LossProbe, ProbeError

Blocks = Mapping[str, str | Sequence[str]]


def parameters_of(optimizer: HasParamGroups) -> Callable[[str, nn.Parameter], bool]:
    """Return a filter for the option ``parameters`` of a probe: those in the groups of an optimizer, by identity."""
    own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}

    def belongs(name: str, parameter: nn.Parameter) -> bool:
        return id(parameter) in own

    return belongs


def layers(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of parameters by the path of the module that holds them, in their order.

    A parameter of the module itself, whose name has no dot, is a layer of its own.
    """
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return found


def block_operators(probe: LossProbe, blocks: Blocks | None = None) -> dict[str, HessianBlock]:
    r"""Return the Hessian in the parameters of each block, with all other parameters held fixed.

    All blocks share one graph of the gradient in all parameters, and a product goes only through the part of it that
    leads from the block to itself: for a network of equal layers, on average about two thirds of a product with the
    whole Hessian. The graphs of all batches are kept as long as any of the blocks. For a single block, a probe with
    ``parameters=`` and a :class:`HessianOperator` cost the least memory.

    Args:
        probe: the point and the batches.
        blocks: glob patterns on the names in ``probe.parameters``, one or several a block; blocks may overlap.
            Default: one block a layer, named by the path of the module, see :func:`layers`.

    Returns:
        The operators by the names of the blocks; the entries of their vectors are the parameters in the order of the
        probe.

    Raises:
        ValueError: no block, or one that matches no parameter.
        ProbeError: the loss is not finite or cannot be differentiated twice, or several processes share it.
    """
    selected = dict(layers(probe.parameters)) if blocks is None else _selected(probe, blocks)
    if not selected:
        raise ValueError("`blocks` is empty")
    if probe.processes.count > 1:
        raise ProbeError(
            "blocks of the Hessian are computed in one process; for one block over several, select its `parameters` "
            "in the probe of a HessianOperator"
        )
    with probe.isolated():
        graphs = [
            dict(zip(probe.parameters, gradient_graph(probe, index), strict=True))
            for index, weight in enumerate(probe.weights)
            if weight > 0
        ]
    return {block: HessianBlock(probe, names, graphs) for block, names in selected.items()}


class HessianBlock:
    """The Hessian in some of a probe's parameters; :func:`block_operators` makes them.

    Args:
        probe: the point and the batches.
        names: of the parameters, keys of ``probe.parameters``.
        graphs: for each batch the weighted gradient of its loss with its graph, by name.
    """

    def __init__(self, probe: LossProbe, names: Sequence[str], graphs: Sequence[Mapping[str, Tensor | None]]) -> None:
        self._probe = probe
        self._leaves = [probe.parameters[name] for name in names]
        self._gradients = [[graph[name] for name in names] for graph in graphs]
        self._sizes = [leaf.numel() for leaf in self._leaves]
        #: Names of the parameters, in the order of the entries.
        self.names = tuple(names)
        #: Number of products with a vector so far.
        self.num_matvecs = 0

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)`` with n the number of real parameters in the block."""
        return sum(self._sizes), sum(self._sizes)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the probe."""
        return self._probe.dtype

    @property
    def device(self) -> torch.device:
        """Device of the probe."""
        return self._probe.device

    def isolated(self) -> AbstractContextManager[None]:
        """Hold the module at the probe's parameters over several products, each of which is then cheaper."""
        return self._probe.isolated()

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return the product with a vector (n,), or column by column with a matrix (n, m).

        It is zero where the loss is linear in the block or does not depend on it.

        Raises:
            TypeError: the tensor has another dtype than the operator.
            ValueError: it has another shape or is on another device.
            ProbeError: the product is not finite, or the loss cannot be differentiated twice.
        """
        require_operand(self, other)
        with self._probe.isolated():
            return columnwise(self._product, other)

    def _product(self, vector: Tensor) -> Tensor:
        total = self._probe.processes.sum(
            lambda: self._own_part(vector), shape=(self.shape[0],), dtype=self.dtype, device=self.device
        )
        self.num_matvecs += 1
        if not bool(torch.isfinite(total).all()):
            raise ProbeError(f"the product of the Hessian in {', '.join(self.names)} with a vector is not finite")
        return total

    def _own_part(self, vector: Tensor) -> Tensor:
        pieces = [piece.view(leaf.shape) for piece, leaf in zip(vector.split(self._sizes), self._leaves, strict=True)]
        pairs = [
            (gradient, piece)
            for gradients in self._gradients
            for gradient, piece in zip(gradients, pieces, strict=True)
            if gradient is not None and gradient.requires_grad
        ]
        if not pairs:
            return torch.zeros_like(vector)
        outputs, directions = zip(*pairs, strict=True)
        with explained_failures():
            products = torch.autograd.grad(
                outputs, self._leaves, grad_outputs=directions, retain_graph=True, allow_unused=True
            )
        return torch.cat(
            [
                torch.zeros_like(leaf).reshape(-1) if product is None else product.reshape(-1)
                for product, leaf in zip(products, self._leaves, strict=True)
            ]
        )


def _selected(probe: LossProbe, blocks: Blocks) -> dict[str, list[str]]:
    selected = {}
    for block, patterns in blocks.items():
        patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        selected[block] = [
            name for name in probe.parameters if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        ]
        if not selected[block]:
            raise ValueError(f"block {block!r} matches no parameter of the probe: {', '.join(patterns)}")
    return selected
