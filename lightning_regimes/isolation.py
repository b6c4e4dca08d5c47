"""Run a module's own code without leaving a trace in it, in the generators or in the loggers.

Everything a diagnostic evaluates goes through :func:`isolated`. What the user's ``training_step`` changes on the
way (running statistics, torchmetrics states, lists that collect outputs, counters, modes, random numbers, logged
values) is put back, also when it raises.
"""

from __future__ import annotations

import collections
import contextlib
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Mode = Literal["eval", "train"]

# A tensor that is neither a parameter nor a buffer is copied before the module's code runs. Above this size it is
# watched instead: data sets kept as attributes would otherwise double the memory.
_MAX_COPIED_BYTES = 64 * 2**20
_MAX_OBJECT_DEPTH = 4
_LIBRARIES = frozenset({"torch", "lightning", "pytorch_lightning", "numpy", "wandb", "builtins", "functools", "types"})


@contextlib.contextmanager
def preserved_rng() -> Iterator[None]:
    """Restore the states of torch's (every device), NumPy's and Python's global generators on exit."""
    python_state, numpy_state, cpu_state = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda_states = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    mps_state = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        torch.set_rng_state(cpu_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)
        if mps_state is not None:
            torch.mps.set_rng_state(mps_state)


@contextlib.contextmanager
def differentiable_numerics(device: torch.device, *, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Numerics under which second derivatives exist and mean what they say.

    Gradients on and inference mode off; no autocast; attention by its mathematical definition, since the fused
    kernels have no second derivative; compiled functions run eagerly; the cuDNN recurrences, which cannot be
    differentiated twice, are off.

    Args:
        device: where the module lives; autocast is switched off there and on the CPU.
        dtype: floating type of tensors that the module's code creates without naming one.
    """
    default_dtype = torch.get_default_dtype()
    fastpath = torch.backends.mha.get_fastpath_enabled()
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device_type in sorted({"cpu", device.type} - {"meta"}):
            stack.enter_context(torch.autocast(device_type, enabled=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        if "torch._dynamo" in sys.modules:  # nothing is compiled before that import
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            if dtype is not None:
                torch.set_default_dtype(dtype)
            yield
        finally:
            torch.set_default_dtype(default_dtype)
            torch.backends.mha.set_fastpath_enabled(fastpath)


@contextlib.contextmanager
def isolated(
    module: nn.Module,
    *,
    mode: Mode,
    tensors: Mapping[int, Tensor],
    dtype: torch.dtype | None = None,
) -> Iterator[None]:
    """Inside, ``module`` computes with ``tensors`` in the given mode; outside, nothing has happened to it.

    Args:
        module: any module; a LightningModule's ``log`` and ``log_dict`` do nothing inside, and the loggers of its
            trainer swallow what is sent to them.
        mode: ``"eval"`` as for evaluation; ``"train"`` uses batch statistics but no dropout, so that the loss
            stays a function of the parameters.
        tensors: what to compute with in place of a parameter or a buffer, by the ``id`` of the original; a tied
            parameter is replaced wherever it appears.
        dtype: see :func:`differentiable_numerics`.
    """
    device = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserved_rng())
        stack.enter_context(_preserved_attributes(module))
        stack.enter_context(_muted_loggers(module))
        _set_mode(module, mode)
        _mute(module)
        _replace_tensors(module, tensors)
        stack.enter_context(differentiable_numerics(device, dtype=dtype))
        yield


def _set_mode(module: nn.Module, mode: Mode) -> None:
    # The flags are set directly: an overridden `train()` may freeze layers or count calls.
    for submodule in module.modules():
        is_dropout = isinstance(submodule, nn.modules.dropout._DropoutNd)
        submodule.training = mode == "train" and not is_dropout


def _mute(module: nn.Module) -> None:
    for submodule in module.modules():
        if hasattr(type(submodule), "training_step"):
            for name in ("log", "log_dict"):
                if hasattr(submodule, name):
                    vars(submodule)[name] = _do_nothing


def _do_nothing(*args: object, **kwargs: object) -> None:
    return None


def _replace_tensors(module: nn.Module, tensors: Mapping[int, Tensor]) -> None:
    for submodule in module.modules():
        for registry in (submodule._parameters, submodule._buffers):
            for name, tensor in registry.items():
                if tensor is not None and id(tensor) in tensors:
                    registry[name] = tensors[id(tensor)]  # type: ignore[assignment]
        if isinstance(submodule, nn.RNNBase):  # keeps a list of its weights beside the registry
            vars(submodule)["_flat_weights"] = [getattr(submodule, name) for name in submodule._flat_weights_names]


class _SilentLogger:
    """Accepts any attribute, call, item and iteration, and does nothing."""

    def __getattr__(self, name: str) -> _SilentLogger:
        return self

    def __call__(self, *args: object, **kwargs: object) -> _SilentLogger:
        return self

    def __getitem__(self, key: object) -> _SilentLogger:
        return self

    def __setitem__(self, key: object, value: object) -> None:
        return None

    def __iter__(self) -> Iterator[_SilentLogger]:
        return iter(())


@contextlib.contextmanager
def _muted_loggers(module: nn.Module) -> Iterator[None]:
    trainer = vars(module).get("_trainer")
    loggers = getattr(trainer, "loggers", None)
    if trainer is None or not loggers:
        yield
        return
    trainer.loggers = [_SilentLogger() for _ in loggers]
    try:
        yield
    finally:
        trainer.loggers = loggers


@contextlib.contextmanager
def _preserved_attributes(module: nn.Module) -> Iterator[None]:
    snapshot = _Snapshot()
    snapshot.add_module(module)
    try:
        yield
    finally:
        snapshot.restore()


class _Snapshot:
    """The plain state of a module tree: attributes, containers, metric states; restored in place."""

    def __init__(self) -> None:
        self._restorers: list[Callable[[], None]] = []
        self._seen: set[int] = set()
        self._kept: list[object] = []  # an id is only unique while its object lives

    def restore(self) -> None:
        for restore in reversed(self._restorers):
            restore()

    def add_module(self, module: nn.Module) -> None:
        if self._is_new(module):
            registries = ("_parameters", "_buffers", "_modules")
            self._add_dict(vars(module), skip=registries)
            for name in registries:
                self._add_dict(vars(module)[name], children=name == "_modules")

    def _is_new(self, value: object) -> bool:
        if id(value) in self._seen:
            return False
        self._seen.add(id(value))
        self._kept.append(value)
        return True

    def _add(self, value: Any, depth: int = 0) -> None:
        if value is None or isinstance(value, str | int | float | bool | type):
            return
        if isinstance(value, nn.Module):
            self.add_module(value)
        elif isinstance(value, Tensor):
            if not isinstance(value, nn.Parameter) and self._is_new(value):
                self._add_tensor(value)
        elif isinstance(value, np.ndarray):
            if self._is_new(value):
                self._add_array(value)
        elif isinstance(value, dict):
            if self._is_new(value):
                self._add_dict(value, depth=depth)
        elif isinstance(value, list | collections.deque):
            if self._is_new(value):
                self._add_sequence(value, depth)
        elif isinstance(value, set):
            if self._is_new(value):
                self._add_set(value)
        elif isinstance(value, tuple):
            for item in value:
                self._add(item, depth)
        elif self._is_plain_object(value) and depth < _MAX_OBJECT_DEPTH and self._is_new(value):
            self._add_dict(vars(value), depth=depth + 1)

    @staticmethod
    def _is_plain_object(value: object) -> bool:
        package = type(value).__module__.partition(".")[0]
        return hasattr(value, "__dict__") and package not in _LIBRARIES and not callable(value)

    def _add_dict(
        self, values: dict[Any, Any], *, depth: int = 0, skip: tuple[str, ...] = (), children: bool = True
    ) -> None:
        saved = dict(values)

        def restore() -> None:
            values.clear()
            values.update(saved)

        self._restorers.append(restore)
        if children:
            for key, value in saved.items():
                if key not in skip and key not in ("_trainer", "trainer"):
                    self._add(value, depth)

    def _add_sequence(self, values: Any, depth: int) -> None:
        saved = list(values)

        def restore() -> None:
            values.clear()
            values.extend(saved)

        self._restorers.append(restore)
        for value in saved:
            self._add(value, depth)

    def _add_set(self, values: set[Any]) -> None:
        saved = set(values)

        def restore() -> None:
            values.clear()
            values.update(saved)

        self._restorers.append(restore)

    def _add_array(self, array: np.ndarray) -> None:
        if not array.flags.writeable or array.nbytes > _MAX_COPIED_BYTES:
            return
        saved = array.copy()

        def restore() -> None:
            array[...] = saved

        self._restorers.append(restore)

    def _add_tensor(self, tensor: Tensor) -> None:
        if tensor.is_inference() or tensor.layout != torch.strided:
            return
        version = tensor._version
        small = tensor.numel() * tensor.element_size() <= _MAX_COPIED_BYTES
        saved = tensor.detach().clone() if small else None

        def restore() -> None:
            if tensor._version == version:
                return
            if saved is not None:
                with torch.no_grad():
                    tensor.detach().copy_(saved)
            else:
                warnings.warn(
                    f"the loss changed an attribute of shape {tuple(tensor.shape)} in place, which is too large to be "
                    "copied for a diagnostic; register it as a buffer to keep diagnostics from changing the training",
                    stacklevel=2,
                )

        self._restorers.append(restore)
