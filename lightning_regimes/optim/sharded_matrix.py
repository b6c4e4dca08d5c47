"""Matrices that are sharded over processes (DTensor), and what a process can do with its rows alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_sharded(tensor: Tensor) -> TypeGuard[DTensor]:
    """Return whether it is a DTensor; that is only imported where somebody else has imported it before."""
    if type(tensor) is Tensor or type(tensor) is torch.nn.Parameter:
        return False
    return hasattr(tensor, "placements") and hasattr(tensor, "device_mesh")


def holds_whole_rows(tensor: Tensor) -> bool:
    """Return whether each row is in one process, as with FSDP2, so that it can be worked on without communication."""
    if not is_sharded(tensor):
        return True
    return all(placement.is_replicate() or placement.is_shard(0) for placement in tensor.placements)


def own_part(tensor: Tensor) -> Tensor:
    """Return what this process holds; writing to it writes to the tensor."""
    if not is_sharded(tensor):
        return tensor
    part: Tensor = tensor.to_local()
    return part


def whole(tensor: Tensor) -> Tensor:
    """Return the whole tensor in each process; a collective where it is sharded."""
    if not is_sharded(tensor):
        return tensor
    gathered: Tensor = tensor.full_tensor()
    return gathered


def own_part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Return the part of a whole tensor, the same in all processes, that this one holds of ``like``."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    mesh = like.device_mesh
    replicated = DTensor.from_local(tensor, mesh, [Replicate()] * mesh.ndim, run_check=False)
    part: Tensor = replicated.redistribute(mesh, like.placements).to_local()
    return part
