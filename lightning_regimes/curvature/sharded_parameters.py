"""The shards that FSDP2 leaves of a module's parameters in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from lightning_regimes.module_state import ProbeError

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def sharded_parameters(module: nn.Module) -> list[DTensor]:
    """Return the parameters that require a gradient, in the order of ``module.named_parameters()``.

    Raises:
        ValueError: there are none.
        TypeError: they are not all float32 or all float64.
        ProbeError: one is not sharded, or not over the same mesh of one dimension as the others.
    """
    # Here and not above: neither is needed, nor quick to import, where nothing is sharded.
    from torch.distributed.tensor import DTensor, Shard

    named = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not named:
        raise ValueError(f"{type(module).__name__} has no parameter that requires a gradient")
    sharded: list[DTensor] = []
    for name, parameter in named.items():
        if not isinstance(parameter, DTensor):
            raise ProbeError(
                f"parameter {name!r} is not sharded ({type(parameter).__name__}, not DTensor): apply `fully_shard` to "
                "the whole module, or use HessianOperator for one that is not sharded"
            )
        if parameter.device_mesh.ndim != 1 or not isinstance(parameter.placements[0], Shard):
            raise ProbeError(
                f"parameter {name!r} is placed as {parameter.placements} on a mesh of {parameter.device_mesh.ndim} "
                "dimensions; only shards on a mesh of one dimension can be moved"
            )
        if sharded and parameter.device_mesh != sharded[0].device_mesh:
            raise ProbeError(f"parameter {name!r} is on another mesh than those before it; shard all over the same one")
        if parameter.dtype not in (torch.float32, torch.float64) or (sharded and parameter.dtype != sharded[0].dtype):
            raise TypeError(f"all parameters are to be float32 or all float64, got {parameter.dtype} for {name!r}")
        sharded.append(parameter)
    return sharded


def own_part(whole: Tensor, parameter: DTensor) -> Tensor:
    """Return what this process holds of a tensor that is sharded like a parameter; the last may hold less, or none."""
    dimension = parameter.placements[0].dim  # type: ignore[attr-defined]
    parts = whole.chunk(parameter.device_mesh.size(), dim=dimension)
    rank = parameter.device_mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else whole.narrow(dimension, 0, 0)


def reshard(module: nn.Module) -> None:
    """Let FSDP forget the whole parameters that it may have gathered, so that it gathers them anew."""
    from torch.distributed.fsdp import FSDPModule

    for submodule in module.modules():
        if isinstance(submodule, FSDPModule):
            submodule.reshard()


def refuse_accumulation(module: nn.Module) -> None:
    """Raise ProbeError where FSDP adds gradients up before it sums them over processes: ours would be among them."""
    from torch.distributed.fsdp import FSDPModule

    for submodule in module.modules():
        if isinstance(submodule, FSDPModule):
            for group in getattr(submodule._get_fsdp_state(), "_fsdp_param_groups", ()):
                is_pending = any(parameter.unsharded_accumulated_grad is not None for parameter in group.fsdp_params)
                if is_pending or not group.reduce_grads:
                    raise ProbeError(
                        "FSDP is accumulating gradients, with which those of a diagnostic would be mixed; look at the "
                        "curvature after the optimizer step, with `set_requires_gradient_sync(True)`"
                    )
