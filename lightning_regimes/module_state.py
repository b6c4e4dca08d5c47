"""What a module keeps beside its parameters and buffers, and how it is put back after the module's code has run."""

from __future__ import annotations

import collections
import functools
import random
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# A tensor that is neither a parameter nor a buffer is copied before the module's code runs. Above this size it is
# watched instead: data sets kept as attributes would otherwise double the memory.
_MAX_COPIED_BYTES = 64 * 2**20
_MAX_DEPTH = 4
# Objects of these packages are shared with the training or large; what they hold is not state of the loss.
_FOREIGN = frozenset({"torch", "lightning", "pytorch_lightning", "numpy", "wandb", "builtins"})
_STATELESS = (str, int, float, complex, bool, type, types.ModuleType)
_TRAINER = ("_trainer", "trainer")


class ProbeError(RuntimeError):
    """The loss, or a derivative of it, cannot be had from this module; the message names the remedy."""


class ModuleState:
    """A snapshot of a module tree, taken when it is made, restored in place.

    It covers the attributes of every submodule: modes, counters, lists, dictionaries and sets, arrays and tensors,
    torchmetrics states, random generators, plain objects and closures (of hooks, say) up to a depth of four, modules
    that are kept out of the registry (a teacher in a list), and the learning rates and schedulers of the trainer.
    Which tensors the registries hold is restored; registered tensors themselves are not copied.

    Args:
        module: the root of the tree.

    Raises:
        ProbeError: a submodule is scripted, so that its attributes cannot be replaced.
    """

    def __init__(self, module: nn.Module) -> None:
        self._restorers: list[Callable[[], None]] = []
        self._seen: set[int] = set()
        self._kept: list[object] = []  # an id is only unique while its object lives
        refuse_scripted(module)
        submodules = list(module.modules())
        self._seen.update(map(id, submodules))
        for submodule in submodules:
            for registry in (submodule._parameters, submodule._buffers, submodule._modules):
                self._remember_dict(registry)
            self._add_dict(vars(submodule), depth=0)
        self._add_optimization(vars(module).get("_trainer"))

    def restore(self) -> None:
        """Put everything back, newest first.

        Raises:
            ProbeError: something could not be put back; everything else has been.
        """
        errors: list[Exception] = []
        for restore in reversed(self._restorers):
            try:
                restore()
            except Exception as error:
                errors.append(error)
        if errors:
            raise ProbeError(f"the module could not be put back entirely: {errors[0]}") from errors[0]

    def _add(self, value: Any, depth: int) -> None:
        if value is None or isinstance(value, _STATELESS) or id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._kept.append(value)
        if isinstance(value, nn.Module):
            self._add_unregistered(value, depth)
        elif isinstance(value, nn.Parameter):
            return
        elif isinstance(value, Tensor):
            self._remember_tensor(value)
        elif isinstance(value, np.ndarray):
            self._remember_array(value)
        elif isinstance(value, dict):
            self._add_dict(value, depth)
        elif isinstance(value, list | collections.deque):
            self._remember_sequence(value)
            self._add_all(value, depth)
        elif isinstance(value, set):
            self._remember_set(value)
        elif isinstance(value, tuple):
            self._add_all(value, depth)
        elif isinstance(value, torch.Generator | np.random.Generator | np.random.RandomState | random.Random):
            self._remember_generator(value)
        elif isinstance(value, types.MethodType):
            self._add(value.__self__, depth)
        elif depth < _MAX_DEPTH and not isinstance(value, Iterator) and _is_plain(value):
            if isinstance(value, types.FunctionType):
                self._add_closure(value, depth + 1)
            else:
                self._add_object(value, depth + 1)

    def _add_all(self, values: Any, depth: int) -> None:
        for value in list(values):
            self._add(value, depth)

    def _add_dict(self, values: dict[Any, Any], depth: int) -> None:
        self._remember_dict(values)
        for key, value in list(values.items()):
            if key not in _TRAINER:
                self._add(value, depth)

    def _add_object(self, value: Any, depth: int) -> None:
        if hasattr(value, "__dict__"):
            self._add_dict(vars(value), depth)
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if hasattr(value, name) and not name.startswith("__"):
                    self._remember_slot(value, name)
                    self._add(getattr(value, name), depth)

    def _add_closure(self, function: types.FunctionType, depth: int) -> None:
        for cell in function.__closure__ or ():
            try:
                saved = cell.cell_contents
            except ValueError:  # not yet bound
                continue
            self._restorers.append(functools.partial(setattr, cell, "cell_contents", saved))
            self._add(saved, depth)

    def _add_unregistered(self, module: nn.Module, depth: int) -> None:
        refuse_scripted(module)
        for submodule in module.modules():
            if submodule is not module and id(submodule) in self._seen:
                continue
            self._seen.add(id(submodule))
            for registry in (submodule._parameters, submodule._buffers, submodule._modules):
                self._remember_dict(registry)
            for tensor in (*submodule._parameters.values(), *submodule._buffers.values()):
                if tensor is not None and id(tensor) not in self._seen:
                    self._seen.add(id(tensor))
                    self._remember_tensor(tensor)
            self._add_dict(vars(submodule), depth)

    def _add_optimization(self, trainer: Any) -> None:
        for optimizer in getattr(trainer, "optimizers", None) or ():
            for group in optimizer.param_groups:
                self._remember_dict(group)
        for configuration in getattr(trainer, "lr_scheduler_configs", None) or ():
            self._seen.add(id(configuration.scheduler.optimizer))
            self._add_dict(vars(configuration.scheduler), depth=0)

    def _remember_dict(self, values: dict[Any, Any]) -> None:
        saved = dict(values)

        def restore() -> None:
            values.clear()
            values.update(saved)

        self._restorers.append(restore)

    def _remember_sequence(self, values: Any) -> None:
        saved = list(values)

        def restore() -> None:
            values.clear()
            values.extend(saved)

        self._restorers.append(restore)

    def _remember_set(self, values: set[Any]) -> None:
        saved = set(values)

        def restore() -> None:
            values.clear()
            values.update(saved)

        self._restorers.append(restore)

    def _remember_slot(self, value: object, name: str) -> None:
        saved = getattr(value, name)
        self._restorers.append(lambda: object.__setattr__(value, name, saved))

    def _remember_generator(self, generator: Any) -> None:
        if isinstance(generator, np.random.Generator):
            bits = generator.bit_generator
            numpy_state = bits.state
            self._restorers.append(lambda: setattr(bits, "state", numpy_state))
            return
        names = ("getstate", "setstate") if isinstance(generator, random.Random) else ("get_state", "set_state")
        state = getattr(generator, names[0])()
        self._restorers.append(lambda: getattr(generator, names[1])(state))

    def _remember_array(self, array: np.ndarray[Any, Any]) -> None:
        if not array.flags.writeable or array.nbytes > _MAX_COPIED_BYTES:
            return
        saved = array.copy()

        def restore() -> None:
            array[...] = saved

        self._restorers.append(restore)

    def _remember_tensor(self, tensor: Tensor) -> None:
        if tensor.is_inference() or tensor.layout != torch.strided or tensor.is_nested:
            return
        if tensor.numel() * tensor.element_size() > _MAX_COPIED_BYTES:
            version = tensor._version
            self._restorers.append(lambda: _warn_if_changed(tensor, version))
            return
        # Only the numbers: a method of the tensor's own kind may ask for names or labels that this one lacks.
        saved = Tensor.clone(Tensor.detach(tensor))

        def restore() -> None:
            # Through `data`: a change through it leaves no mark in the version, and neither does putting it back.
            if tensor.shape == saved.shape:
                tensor.data.copy_(saved)
            else:
                tensor.data = saved

        self._restorers.append(restore)


def refuse_scripted(module: nn.Module) -> None:
    """Raise ProbeError for a module that is compiled by TorchScript: its registries cannot be replaced."""
    for name, submodule in module.named_modules():
        if isinstance(submodule, torch.jit.ScriptModule):
            where = f"submodule {name!r}" if name else "the module"
            raise ProbeError(f"{where} is compiled by torch.jit, which hides its parameters; train the Python module")


def _is_plain(value: object) -> bool:
    if isinstance(value, types.SimpleNamespace):
        return True
    module = value.__module__ if isinstance(value, types.FunctionType) else type(value).__module__
    return (module or "").partition(".")[0] not in _FOREIGN


def _warn_if_changed(tensor: Tensor, version: int) -> None:
    if tensor._version != version:
        warnings.warn(
            f"the loss changed an attribute of shape {tuple(tensor.shape)} in place, which is too large to be copied "
            "for a diagnostic; register it as a buffer to keep diagnostics from changing the training",
            stacklevel=2,
        )
