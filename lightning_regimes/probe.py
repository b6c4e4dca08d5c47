"""The training loss of a module as a function of its parameters, on fixed batches.

Every diagnostic takes a :class:`LossProbe`: it owns the point at which the loss is looked at, runs the module's own
code there, and leaves no trace in the module (see :mod:`lightning_regimes.isolation`).
"""

from __future__ import annotations

import contextlib
import copy
import functools
import operator
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from lightning_regimes.batches import map_tensors, num_samples, tensors_of
from lightning_regimes.isolation import Mode, Slot, isolated, seed_generators
from lightning_regimes.loss_source import LossFunction, find_loss, refuse_stale_parameters
from lightning_regimes.module_state import ProbeError, refuse_scripted
from lightning_regimes.parameter_selection import ParameterFilter, real_leaf, select_parameters
from lightning_regimes.processes import Processes


class LossProbe:
    r"""The loss :math:`L(\theta) = \sum_b w_b L_b(\theta)` of a module on fixed batches.

    Parameters and buffers are copied when the probe is made: it stays at that point while training goes on.
    Evaluations run the module's own code, in isolation, on copies of the batches and of what is no parameter of
    :math:`L`, with the random generators at the same state each time, so that :math:`L` is a deterministic function
    of :math:`\theta`.

    Args:
        module: a LightningModule, attached to a trainer or not, or any module when ``loss`` is given.
        batches: what the loss is evaluated on, of any structure, on any device. The mean losses :math:`L_b` are
            weighted by the number of samples in each batch, so that unequal batches give the loss of their union.
        loss: ``loss(module, batch)`` returning a scalar. Default: the module's ``diagnostic_loss(batch)`` if it has
            one, otherwise its ``training_step`` with logging muted.
        parameters: which parameters the loss is a function of: a glob pattern on names or several, or a callable
            ``(name, parameter) -> bool``. Default: all that require a gradient. A tied parameter counts once.
        mode: ``"eval"`` evaluates as for validation; ``"train"`` uses the statistics of the batch in normalisation
            layers, still without dropout.
        dtype: ``torch.float32`` or ``torch.float64``. Default: float64 for a module with float64 parameters,
            float32 for all others, half precision included.
        weights: one non-negative number per batch in place of the number of samples.
        seed: state of the random generators at each evaluation.
        process_group: of ``torch.distributed``, whose processes hold the same parameters and each some of the batches,
            as in DDP; the loss is that on the batches of all of them, weighted by their samples. Then the processes
            must make the probe together, and together call what sums over batches. Default: this process alone.

    Raises:
        ValueError: no batches, no parameters, or unusable weights.
        TypeError: no source for the loss.
        ProbeError: the module uses manual optimization without ``diagnostic_loss``, its parameters are sharded, or
            another process failed.
    """

    def __init__(
        self,
        module: nn.Module,
        batches: Sequence[Any],
        *,
        loss: LossFunction | None = None,
        parameters: ParameterFilter | None = None,
        mode: Mode = "eval",
        dtype: torch.dtype | None = None,
        weights: Sequence[float] | None = None,
        seed: int = 0,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        if mode not in ("eval", "train"):
            raise ValueError(f"`mode` is 'eval' or 'train', got {mode!r}")
        if dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"`dtype` is torch.float32 or torch.float64, got {dtype}")
        if isinstance(batches, Tensor | Mapping | str) or len(batches) == 0:
            raise ValueError(
                "`batches` is a non-empty sequence of training batches, got "
                + ("an empty one" if not isinstance(batches, Tensor | Mapping | str) else type(batches).__name__)
            )
        if isinstance(batches, tuple) and all(isinstance(item, Tensor) for item in batches):
            raise ValueError("`batches` looks like a single batch, a tuple of tensors; put it into a list: `[batch]`")
        self._module = module
        self._evaluate, self.loss_source = find_loss(module, loss)
        #: ``"eval"`` or ``"train"``.
        self.mode: Mode = mode
        #: State of the random generators at each evaluation.
        self.seed = seed
        self._stack: contextlib.ExitStack | None = None
        self._depth = 0
        self._slots: list[Slot] = []
        self._in_use: dict[str, Tensor] = {}
        self._versions: dict[str, int] = {}
        self._verified: set[int] = set()
        #: The processes that share the loss.
        self.processes = Processes(process_group)
        self._set_weights(self.processes.collect(lambda: self._take(module, batches, parameters, dtype, weights)))

    def _take(
        self,
        module: nn.Module,
        batches: Sequence[Any],
        parameters: ParameterFilter | None,
        dtype: torch.dtype | None,
        weights: Sequence[float] | None,
    ) -> list[float]:
        """Copy what the loss is made of; return the weights of the batches before they are normalised."""
        selected = select_parameters(module, parameters)
        native = {parameter.dtype for parameter in module.parameters()}
        self.dtype = dtype or (torch.float64 if native & {torch.float64, torch.complex128} else torch.float32)
        self.device = next(iter(selected.values())).device
        self._casts = any(dtype != self._cast_dtype(dtype) for dtype in native)
        self._complex = {name for name, parameter in selected.items() if parameter.is_complex()}
        #: The leaves that the loss is a function of, by name; complex parameters as real views, shape (..., 2).
        self.parameters: dict[str, Tensor] = {
            name: real_leaf(parameter, self._cast_dtype(parameter.dtype)) for name, parameter in selected.items()
        }
        #: Number of real elements in all leaves together.
        self.num_parameters = sum(leaf.numel() for leaf in self.parameters.values())
        self._originals = set(map(id, module.parameters()))
        tensors = [
            *module.named_parameters(remove_duplicate=False),
            *module.named_buffers(remove_duplicate=False),
        ]
        first = {id(tensor): path for path, tensor in reversed(tensors)}
        # The path under which a tensor is met first, for each path of it.
        self._tied_to = {path: first[id(tensor)] for path, tensor in tensors}
        self._fixed = {
            path: tensor.detach().to(self._cast_dtype(tensor.dtype), copy=True)
            for path, tensor in tensors
            if path == first[id(tensor)] and path not in self.parameters
        }
        self._batches = [self._prepared(batch) for batch in batches]
        #: Number of batches in this process.
        self.num_batches = len(self._batches)
        return _checked_weights(self._batches, weights)

    def _set_weights(self, weights: list[list[float]]) -> None:
        everywhere = [weight for own in weights for weight in own]
        total = sum(everywhere)
        if not 0 < total < float("inf"):
            raise ValueError(f"`weights` are not all zero and their sum is finite, got {everywhere}")
        #: The weights of the batches in all processes, which sum to one.
        self.all_weights = tuple(weight / total for weight in everywhere)
        self._first_batch = sum(len(own) for own in weights[: self.processes.rank])
        #: The weights of the batches in this process.
        self.weights = self.all_weights[self._first_batch : self._first_batch + self.num_batches]

    def loss(self) -> Tensor:
        """Return the loss as a detached float64 scalar; the sum over batches is taken in float64."""

        def own() -> Tensor:
            losses = [self._batch_value(index).detach().double() for index in range(self.num_batches)]
            return weighted_sum(self.weights, losses)

        with self.isolated():
            return self.processes.sum(own, shape=(), dtype=torch.float64, device=self.device)

    def average(self, function: Callable[[Any], Tensor]) -> Tensor:
        """Return the weighted mean of ``function(batch)``, a scalar, as detached float64."""

        def own() -> Tensor:
            return weighted_sum(self.weights, [function(_copied(batch)).detach().double() for batch in self._batches])

        with self.isolated():
            return self.processes.sum(own, shape=(), dtype=torch.float64, device=self.device)

    def with_loss(self, loss: LossFunction) -> LossProbe:
        """Return a probe of another ``loss(module, batch)``, such as one term, at the same point on the same batches.

        Raises:
            TypeError: ``loss`` is not callable.
        """
        other = copy.copy(self)
        other._evaluate, other.loss_source = find_loss(self._module, loss)
        other.parameters, other._fixed = dict(self.parameters), dict(self._fixed)
        other._stack, other._depth, other._slots = None, 0, []
        other._in_use, other._versions, other._verified = {}, {}, set()
        return other

    @property
    def module(self) -> nn.Module:
        """The module itself, which holds the probe's parameters and buffers inside :meth:`isolated` only."""
        return self._module

    @property
    def loss_function(self) -> LossFunction:
        """``loss(module, batch)``, of which this is the probe."""
        return self._evaluate

    @property
    def complex_parameters(self) -> frozenset[str]:
        """Names of the leaves that are real views of complex parameters."""
        return frozenset(self._complex)

    @property
    def fixed_tensors(self) -> Mapping[str, Tensor]:
        """Copies of the buffers, and of the parameters that the loss is not looked at as a function of, by path."""
        return types.MappingProxyType(self._fixed)

    def batch(self, index: int) -> Any:
        """Return a copy of a batch of this process, as the loss is evaluated on it."""
        return _copied(self._batches[index])

    def point(self) -> Tensor:
        """Return the parameters as a detached vector, shape (num_parameters,)."""
        return self.flatten([leaf.detach() for leaf in self.parameters.values()])

    def gradient(self) -> Tensor:
        """Return the gradient as a detached vector, shape (num_parameters,).

        Raises:
            ProbeError: the loss has no graph or depends on none of the parameters.
        """

        def own() -> Tensor:
            total = torch.zeros(self.num_parameters, dtype=self.dtype, device=self.device)
            for index, weight in enumerate(self.weights):
                total.add_(self._batch_gradient(index), alpha=weight)
            return total

        with self.isolated():
            return self.sum(own)

    def batch_gradients(self) -> Tensor:
        """Return the gradient of each batch, not weighted, as detached columns, in the order of :attr:`all_weights`.

        The shape is (num_parameters, m), with m the number of batches in all processes together.

        Raises:
            ProbeError: the loss has no graph or depends on none of the parameters.
        """
        shape = (self.num_parameters, len(self.all_weights))

        def own() -> Tensor:
            columns = torch.stack([self._batch_gradient(index) for index in range(self.num_batches)], dim=1)
            if columns.shape == shape:
                return columns
            everywhere = columns.new_zeros(shape)
            everywhere[:, self._first_batch : self._first_batch + self.num_batches] = columns
            return everywhere

        with self.isolated():
            return self.processes.sum(own, shape=shape, dtype=self.dtype, device=self.device)

    def sum(self, compute: Callable[[], Tensor]) -> Tensor:
        """Return the sum over processes of the vector that each computes from its batches, shape (num_parameters,)."""
        return self.processes.sum(compute, shape=(self.num_parameters,), dtype=self.dtype, device=self.device)

    def _batch_gradient(self, index: int) -> Tensor:
        gradients = torch.autograd.grad(self.batch_loss(index), list(self.parameters.values()), allow_unused=True)
        if all(gradient is None for gradient in gradients):
            raise ProbeError(_INDEPENDENT)
        return self.flatten(gradients)

    def batch_loss(self, index: int, *, loss: LossFunction | None = None) -> Tensor:
        """Return the loss of one batch, a scalar differentiable in :attr:`parameters`, not weighted.

        It belongs inside :meth:`isolated`, and so does everything that differentiates it.

        Args:
            index: of the batch.
            loss: another ``loss(module, batch)`` to evaluate in place of the probe's, under the same rules.

        Raises:
            ProbeError: the loss is no scalar, has no graph, or uses parameters that the module does not look up in
                its registry.
        """
        with self.isolated():
            value = self._batch_value(index, loss)
        if not value.requires_grad:
            raise ProbeError(
                f"the loss from `{self._name_of(loss)}` has no graph: it must be computed from the module's parameters "
                "without `detach`, `item` or `no_grad`"
            )
        return value

    def batch_value(self, index: int) -> Tensor:
        """Return the loss of one batch, a scalar, as :meth:`batch_loss` does, but with or without a graph.

        Raises:
            ProbeError: the loss is no scalar, or uses parameters that the module does not look up in its registry.
        """
        if self._depth:
            return self._batch_value(index)
        with self.isolated():
            return self._batch_value(index)

    def bare_value(self, batch: Any) -> Tensor:
        """Return the loss of a batch, a scalar, with generators, batch and buffers as they are.

        It is that of :meth:`batch_value`, for less, as long as the loss draws no random numbers and changes nothing. It
        belongs inside :meth:`isolated`.
        """
        return self._value_on(batch)

    def is_intact(self) -> bool:
        """Return whether the module still computes with what it was given, none of it changed in place."""
        paths = [(slot, self._tied_to.get(slot.path)) for slot in self._slots]
        return all(
            slot.tensor is self._in_use[path] and slot.tensor._version == self._versions[path]
            for slot, path in paths
            if path is not None
        )

    @contextlib.contextmanager
    def moved(self, leaves: Sequence[Tensor]) -> Iterator[None]:
        """Evaluate the loss at other leaves, shaped like :attr:`parameters`, which they replace for the while."""
        home = dict(self.parameters)
        with self.isolated():
            try:
                self._move(dict(zip(home, leaves, strict=True)))
                yield
            finally:
                self._move(home)

    @contextlib.contextmanager
    def replaced(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Evaluate the loss with other values of buffers, given by their paths in the module, for the while."""
        home = {path: self._fixed[path] for path in tensors}
        with self.isolated():
            try:
                self._replace(tensors)
                yield
            finally:
                self._replace(home)

    def _replace(self, tensors: Mapping[str, Tensor]) -> None:
        self._fixed.update(tensors)
        for path in tensors:
            self._in_use.pop(path, None)
        self._fill()

    def _move(self, leaves: dict[str, Tensor]) -> None:
        self.parameters.update(leaves)
        for path in leaves:
            self._in_use.pop(path, None)
        self._fill()

    @contextlib.contextmanager
    def isolated(self) -> Iterator[None]:
        """Hold the module at the probe's parameters; re-entrant, nearly free when already inside."""
        if self._depth == 0:
            stack = contextlib.ExitStack()
            self._slots = stack.enter_context(
                isolated(self._module, mode=self.mode, device=self.device, dtype=self.dtype)
            )
            self._stack = stack
            self._fill()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0 and self._stack is not None:
                stack, self._stack = self._stack, None
                self._slots, self._in_use = [], {}
                stack.close()

    def flatten(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Return tensors shaped like the leaves as one vector, shape (num_parameters,); ``None`` counts as zero."""
        return torch.cat(
            [
                torch.zeros_like(leaf).flatten() if tensor is None else tensor.reshape(-1)
                for tensor, leaf in zip(tensors, self.parameters.values(), strict=True)
            ]
        )

    def unflatten(self, vector: Tensor) -> list[Tensor]:
        """Return the pieces of a vector of shape (num_parameters,), shaped like the leaves; views where possible."""
        pieces = torch.split(vector, [leaf.numel() for leaf in self.parameters.values()])
        return [
            # Pairs of reals make complex numbers only from an even place in memory on.
            (piece.clone() if path in self._complex and piece.storage_offset() % 2 else piece).view(leaf.shape)
            for piece, (path, leaf) in zip(pieces, self.parameters.items(), strict=True)
        ]

    def _name_of(self, loss: LossFunction | None) -> str:
        return self.loss_source if loss is None else getattr(loss, "__name__", type(loss).__name__)

    def _batch_value(self, index: int, loss: LossFunction | None = None) -> Tensor:
        seed_generators(self.seed + index, self.device)
        self._fill()
        value = self._value_on(_copied(self._batches[index]), loss)
        self._require_unmoved()
        if value.requires_grad and (loss is not None or index not in self._verified):
            refuse_stale_parameters(value, self._originals)
            if loss is None:
                self._verified.add(index)
        return value

    def _value_on(self, batch: Any, loss: LossFunction | None = None) -> Tensor:
        output = (loss or self._evaluate)(self._module, batch)
        value = output.get("loss") if isinstance(output, Mapping) else output
        source = self._name_of(loss)
        if not isinstance(value, Tensor):
            raise ProbeError(
                f"`{source}` of {type(self._module).__name__} returned {type(output).__name__}, not a loss; "
                "return the scalar tensor, or a dictionary that holds it under 'loss'"
            )
        if value.numel() != 1 or not value.is_floating_point():
            raise ProbeError(
                f"the loss from `{source}` must be one real number, got {tuple(value.shape)} of {value.dtype}"
            )
        return value.reshape(()) if value.ndim else value

    def _fill(self) -> None:
        """Give the module the leaves, and fresh copies of everything else that an evaluation has changed."""
        for slot in self._slots:
            path = self._tied_to.get(slot.path)
            if path is None:  # registered since the probe was made
                continue
            in_use = self._in_use.get(path)
            if in_use is None or (path in self._fixed and in_use._version != self._versions[path]):
                in_use = self._fixed[path].clone() if path in self._fixed else self._leaf(path)
                self._in_use[path], self._versions[path] = in_use, in_use._version
            if slot.tensor is not in_use:
                slot.fill(in_use)

    def _leaf(self, path: str) -> Tensor:
        leaf = self.parameters[path]
        return torch.view_as_complex(leaf) if path in self._complex else leaf

    def _require_unmoved(self) -> None:
        for path in self.parameters:
            if self._in_use[path]._version != self._versions[path]:
                raise ProbeError(
                    f"the loss changes the parameter {path!r} in place, so that it is no function of it; move that to "
                    "a hook such as `on_before_optimizer_step`, or give the module a method `diagnostic_loss(batch)`"
                )

    def _cast_dtype(self, dtype: torch.dtype) -> torch.dtype:
        if dtype.is_complex:
            return self.dtype.to_complex()
        return self.dtype if dtype.is_floating_point else dtype

    def _prepared(self, batch: Any) -> Any:
        # A batch of a module in its own precision is used as the training used it; one that the precision plugin
        # has rounded, or that meets a module in another precision than it was trained in, follows the module.
        # Tensors that stay on the CPU beside others on the device, such as lengths, have their reason.
        elsewhere = all(tensor.device != self.device for tensor in tensors_of(batch))

        def prepare(tensor: Tensor) -> Tensor:
            dtype = self._cast_dtype(tensor.dtype) if self._casts else tensor.dtype
            with torch.inference_mode(False):
                moved = tensor.detach().to(self.device if elsewhere else tensor.device, dtype)
                return moved.clone() if moved.is_inference() else moved

        return map_tensors(batch, prepare)


def _copied(batch: Any) -> Any:
    # By their own method: kinds of tensors with names or labels keep them.
    return map_tensors(batch, lambda tensor: tensor.clone())


def check_module(
    module: nn.Module, *, loss: LossFunction | None = None, parameters: ParameterFilter | None = None
) -> int:
    """Return the number of real parameters that a :class:`LossProbe` with these arguments would have.

    Raises:
        ValueError: as :class:`LossProbe` does, before there are batches.
        TypeError: as above.
        ProbeError: as above.
    """
    refuse_scripted(module)
    find_loss(module, loss)
    selected = select_parameters(module, parameters)
    return sum(parameter.numel() * (2 if parameter.is_complex() else 1) for parameter in selected.values())


_INDEPENDENT = (
    "the loss does not depend on any of the probed parameters; check that the loss is computed from registered "
    "submodules, and what `parameters` selects"
)


def weighted_sum(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """Return the sum of weighted tensors, added one after the other, so that each entry is that of its own sum."""
    return functools.reduce(operator.add, [weight * value for weight, value in zip(weights, values, strict=True)])


def _checked_weights(batches: Sequence[Any], weights: Sequence[float] | None) -> list[float]:
    values = [float(num_samples(batch)) for batch in batches] if weights is None else [float(w) for w in weights]
    if len(values) != len(batches):
        raise ValueError(f"`weights` holds {len(values)} numbers for {len(batches)} batches")
    if any(not value >= 0 for value in values):
        raise ValueError(f"`weights` are non-negative, got {values}")
    return values
