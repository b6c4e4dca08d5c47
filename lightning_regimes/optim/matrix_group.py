"""What a group of a matrix optimizer, its gradients and its state have to be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_regimes.optim.learning_rate_adjustment import learning_rate_scale
from lightning_regimes.optim.sharded_matrix import own_part


def check_group(group: dict[str, Any]) -> None:
    """Raise ValueError if a group has a setting out of range, or a matrix group holds something that is no matrix."""
    if group["algorithm"] not in ("matrix", "adamw"):
        raise ValueError(f"`algorithm` of a group is matrix or adamw, got {group['algorithm']!r}")
    for name in ("lr", "weight_decay"):
        if not group[name] >= 0:
            raise ValueError(f"`{name}` must not be negative, got {group[name]}")
    for index, parameter in enumerate(group["params"]):
        if getattr(parameter, "_is_flat_param", False):
            raise ValueError(
                f"{_name(group, index)} is flattened by FSDP1, which leaves no matrix: shard with `fully_shard` (FSDP2)"
            )
    if group["algorithm"] == "adamw":
        if not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"`betas` are in [0, 1), got {group['betas']}")
        return
    if not 0 <= group["momentum"] < 1:
        raise ValueError(f"`momentum` is in [0, 1), got {group['momentum']}")
    if group.get("normuon_beta2") is not None and not 0 <= group["normuon_beta2"] < 1:
        raise ValueError(f"`normuon_beta2` is in [0, 1) or None, got {group['normuon_beta2']}")
    if not 0 <= group.get("power", 0) <= 1:
        raise ValueError(f"`power` must be between 0 and 1, got {group['power']}")
    learning_rate_scale(group["adjust_lr_fn"], 1, 1)
    for index, parameter in enumerate(group["params"]):
        if parameter.ndim < 2:
            raise ValueError(
                f"{_name(group, index)} in a matrix group has shape {tuple(parameter.shape)}, and a matrix has two or "
                "more dimensions: put it in an adamw group, or, if FSDP1 flattened it, shard with `fully_shard` (FSDP2)"
            )
        if parameter.is_complex():
            raise ValueError(f"{_name(group, index)} in a matrix group is complex: put it in an adamw group")
        row_blocks(group, parameter.shape[0])


def row_blocks(group: Mapping[str, Any], rows: int) -> list[int]:
    """Return the numbers of rows of the matrices that one with so many rows is made of.

    Raises:
        ValueError: the heads or the sizes do not fit the rows.
    """
    num_heads, sizes = group.get("num_heads"), group.get("split_sizes")
    if num_heads is not None and sizes is not None:
        raise ValueError(
            "a group has `num_heads` or `split_sizes`, got both: name the rows of all blocks in the latter"
        )
    if num_heads is not None:
        if num_heads < 1 or rows % num_heads:
            raise ValueError(f"`num_heads` divides the {rows} rows of each matrix of its group, got {num_heads}")
        return [rows // num_heads] * num_heads
    if sizes is not None:
        if min(sizes, default=0) < 1 or sum(sizes) != rows:
            raise ValueError(f"`split_sizes` add up to the {rows} rows of each matrix of its group, got {list(sizes)}")
        return list(sizes)
    return [rows]


def check_gradients(groups: list[dict[str, Any]]) -> None:
    """Raise RuntimeError if a gradient of a matrix is sparse or not finite."""
    norms: dict[torch.device, list[Tensor]] = {}
    for group in groups:
        for index, parameter in enumerate(group["params"]):
            gradient = parameter.grad
            if gradient is None:
                continue
            if gradient.is_sparse:
                raise RuntimeError(f"the gradient of {_name(group, index)} is sparse, and a matrix needs a dense one")
            part = own_part(gradient)
            norms.setdefault(part.device, []).append(torch.linalg.vector_norm(part))
    # A norm is one pass, and a device is waited for once. It overflows before the entries do, hence the second look.
    if all(math.isfinite(float(torch.stack(values).sum())) for values in norms.values()):
        return
    for group in groups:
        for index, parameter in enumerate(group["params"]):
            if parameter.grad is not None and not bool(own_part(parameter.grad).isfinite().all()):
                raise RuntimeError(
                    f"the gradient of {_name(group, index)} is not finite, and its momentum would stay so: "
                    "nothing has been changed by this step"
                )


def check_momenta(groups: list[dict[str, Any]], state: Mapping[Tensor, dict[str, Any]]) -> None:
    """Raise ValueError if a momentum of a matrix is not finite."""
    for group in groups:
        for index, parameter in enumerate(group["params"]):
            momentum = state[parameter].get("momentum_buffer") if parameter in state else None
            if momentum is not None and not bool(own_part(momentum).isfinite().all()):
                raise ValueError(f"the loaded momentum of {_name(group, index)} is not finite")


def group_from_other(saved: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return a saved group, completed by what the group of this optimizer has and it has not.

    Raises:
        ValueError: the one is a matrix group and the other is not.
    """
    group = dict(saved)
    if "use_muon" in group:
        group.setdefault("algorithm", "matrix" if group.pop("use_muon") else "adamw")
    if "algorithm" not in group and group.get("adjust_lr_fn", "") is None:
        # torch.optim.Muon's word for its default.
        group["adjust_lr_fn"] = "original"
    if group.get("algorithm", own["algorithm"]) != own["algorithm"]:
        raise ValueError(
            f"the state to load has a group for {group['algorithm']} where this optimizer has one for "
            f"{own['algorithm']}: the parameters were distributed otherwise when it was saved"
        )
    return own | group


def _name(group: Mapping[str, Any], index: int) -> str:
    names = group.get("param_names")
    return f"parameter {index if names is None else repr(names[index])}"
