"""Run a module's own code without leaving a trace in it, in the generators or in the loggers.

Everything a diagnostic evaluates goes through :func:`isolated`. What the user's ``training_step`` changes on the
way (running statistics, torchmetrics states, lists that collect outputs, counters, modes, random numbers, logged
values) is put back, also when it raises.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_regimes.module_state import ModuleState, ProbeError

Mode = Literal["eval", "train"]


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


def seed_generators(seed: int, device: torch.device) -> None:
    """Set torch's (every device), NumPy's and Python's global generators to a state of their own for each seed."""
    if device.type == "cpu" and not torch.cuda.is_initialized():
        # `torch.manual_seed` also notes the seed, with a stack trace, for devices that may come into use later, which
        # takes longer than the loss of a small network.
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


@contextlib.contextmanager
def differentiable_numerics(device: torch.device, *, dtype: torch.dtype) -> Iterator[None]:
    """Numerics under which second derivatives exist and mean what they say.

    Gradients on and inference mode off; no autocast; attention by its mathematical definition, since the fused
    kernels have no second derivative; compiled functions run eagerly.

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
        if "torch._dynamo" in sys.modules:  # nothing is compiled before that import
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            torch.backends.mha.set_fastpath_enabled(False)
            torch.set_default_dtype(dtype)
            yield
        finally:
            torch.set_default_dtype(default_dtype)
            torch.backends.mha.set_fastpath_enabled(fastpath)


@contextlib.contextmanager
def isolated(module: nn.Module, *, mode: Mode, device: torch.device, dtype: torch.dtype) -> Iterator[list[Slot]]:
    """Yield the slots of a module's parameters and buffers; whatever happens inside has not happened outside.

    Args:
        module: any module; a LightningModule's ``log`` and ``log_dict`` do nothing inside, and the loggers of its
            trainer swallow what is sent to them.
        mode: ``"eval"`` as for evaluation; ``"train"`` uses batch statistics but no dropout layers, so that the loss
            stays a function of the parameters.
        device: where the module lives.
        dtype: see :func:`differentiable_numerics`.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(preserved_rng())
        state = ModuleState(module)
        stack.callback(state.restore)
        stack.enter_context(_muted_loggers(module))
        _set_mode(module, mode)
        _mute(module)
        _hide_iterators(module)
        stack.enter_context(differentiable_numerics(device, dtype=dtype))
        if device.type == "cuda" and any(isinstance(submodule, nn.RNNBase) for submodule in module.modules()):
            # cuDNN's recurrences have no second derivative.
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield _slots(module)


class Slot:
    """Where a module keeps a parameter or a buffer; a tied one has several slots.

    Attributes:
        path: dotted name from the root of the module tree.
    """

    def __init__(self, path: str, module: nn.Module, registry: dict[str, Any]) -> None:
        self.path = path
        self._module, self._registry, self._name = module, registry, path.rpartition(".")[2]

    @property
    def tensor(self) -> Tensor:
        """What the module computes with now."""
        tensor: Tensor = self._registry[self._name]
        return tensor

    def fill(self, tensor: Tensor) -> None:
        """Let the module compute with another tensor."""
        self._registry[self._name] = tensor
        if isinstance(self._module, nn.RNNBase):  # keeps a list of its weights beside the registry
            weights = [getattr(self._module, name) for name in self._module._flat_weights_names]
            vars(self._module)["_flat_weights"] = weights


def _slots(module: nn.Module) -> list[Slot]:
    return [
        Slot(f"{prefix}.{name}" if prefix else name, submodule, registry)
        for prefix, submodule in module.named_modules(remove_duplicate=False)
        for registry in (submodule._parameters, submodule._buffers)
        for name, tensor in registry.items()
        if tensor is not None
    ]


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


class _HiddenIterator:
    """Stands for an iterator whose place cannot be restored."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __iter__(self) -> _HiddenIterator:
        return self

    def __next__(self) -> Any:
        raise ProbeError(
            f"the loss takes the next item of the iterator `{self._name}`, which a diagnostic must not advance; "
            "give the module a method `diagnostic_loss(batch)` that does without"
        )


def _hide_iterators(module: nn.Module) -> None:
    for submodule in module.modules():
        for name, value in vars(submodule).items():
            if isinstance(value, Iterator):
                vars(submodule)[name] = _HiddenIterator(name)


class _SilentLogger:
    """Accepts any attribute, call, item and iteration, and does nothing; only says where the real logger writes."""

    def __init__(self, logger: Any = None) -> None:
        self._logger = logger

    def __getattr__(self, name: str) -> Any:
        if name in ("save_dir", "root_dir", "log_dir", "name", "version") and self._logger is not None:
            return getattr(self._logger, name)
        return _SilentLogger()

    def __enter__(self) -> _SilentLogger:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

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
    trainer.loggers = [_SilentLogger(logger) for logger in loggers]
    try:
        yield
    finally:
        trainer.loggers = loggers
