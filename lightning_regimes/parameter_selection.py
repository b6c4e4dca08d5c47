"""Which parameters of a module the loss is looked at as a function of."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lightning_regimes.module_state import ProbeError

ParameterFilter = str | Sequence[str] | Callable[[str, nn.Parameter], bool]


def select_parameters(module: nn.Module, parameters: ParameterFilter | None) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient and pass the filter, by name, each once.

    Raises:
        ValueError: there are none.
        ProbeError: a parameter has no values that can be looked at: it is uninitialized, sharded or on the meta device.
    """
    _refuse_without_values(module)
    selected = _matching(module, parameters)
    if not selected:
        raise ValueError(
            f"{type(module).__name__} has no parameter that requires a gradient"
            + ("" if parameters is None else f" and matches `parameters`={parameters!r}")
        )
    return selected


def real_leaf(parameter: nn.Parameter, dtype: torch.dtype) -> Tensor:
    """Return a copy that a gradient can be taken in; of a complex parameter its real view, shape (..., 2)."""
    with torch.inference_mode(False), torch.no_grad():
        value = parameter.detach().to(dtype, copy=True).contiguous()
        if value.is_complex():
            value = torch.view_as_real(value.resolve_conj()).clone()
    return value.requires_grad_()


def _matching(module: nn.Module, parameters: ParameterFilter | None) -> dict[str, nn.Parameter]:
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if parameters is None:
        return trainable
    if callable(parameters):
        return {name: parameter for name, parameter in trainable.items() if parameters(name, parameter)}
    patterns = [parameters] if isinstance(parameters, str) else list(parameters)
    return {
        name: parameter
        for name, parameter in trainable.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
    }


def _refuse_without_values(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if isinstance(parameter, nn.UninitializedParameter):
            raise ProbeError(f"parameter {name!r} has no shape yet; run one batch through the lazy module first")
        if hasattr(parameter, "device_mesh") or type(parameter).__name__ == "FlatParameter":
            raise ProbeError(
                f"parameter {name!r} is sharded ({type(parameter).__name__}); the loss is probed on whole parameters: "
                "train with DDP or on one device, pass an unsharded copy of the module, or use "
                "`curvature.ShardedHessianOperator` for one that is sharded by `fully_shard`"
            )
        if parameter.is_meta:
            raise ProbeError(f"parameter {name!r} is on the meta device and has no values")
