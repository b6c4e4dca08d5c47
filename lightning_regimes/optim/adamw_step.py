"""The step of AdamW on the parameters of one group."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw


def adamw_step(group: dict[str, Any], state: MutableMapping[Tensor, dict[str, Any]]) -> None:
    """Do one step of AdamW, that of torch with its own state.

    Args:
        group: with the keys ``params``, ``lr``, ``betas``, ``eps``, ``weight_decay`` and ``maximize``.
        state: of the optimizer; gets ``step``, ``exp_avg`` and ``exp_avg_sq`` of each parameter with a gradient.

    Raises:
        RuntimeError: a gradient is sparse.
    """
    parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
    if not parameters:
        return
    for parameter in parameters:
        if parameter.grad.is_sparse:
            raise RuntimeError(
                f"the gradient of a parameter of shape {tuple(parameter.shape)} is sparse, and AdamW takes dense ones: "
                "build the embedding with `sparse=False`"
            )
        moments = state[parameter]
        if "exp_avg" not in moments:
            moments["step"] = torch.tensor(0.0)
            moments["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            moments["exp_avg_sq"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        elif not isinstance(moments["step"], Tensor):
            # Other hybrids count in plain numbers.
            moments["step"] = torch.tensor(float(moments["step"]))
    beta1, beta2 = group["betas"]
    adamw(
        parameters,
        [parameter.grad for parameter in parameters],
        [state[parameter]["exp_avg"] for parameter in parameters],
        [state[parameter]["exp_avg_sq"] for parameter in parameters],
        [],
        [state[parameter]["step"] for parameter in parameters],
        has_complex=any(parameter.is_complex() for parameter in parameters),
        amsgrad=False,
        beta1=beta1,
        beta2=beta2,
        lr=group["lr"],
        weight_decay=group["weight_decay"],
        eps=group["eps"],
        maximize=group["maximize"],
        # One pass over memory in place of ten. On a GPU torch's own choice, many tensors at once, is as good.
        fused=True if all(map(_fits_fused_kernel, parameters)) else None,
    )


def _fits_fused_kernel(parameter: Tensor) -> bool:
    is_plain = type(parameter) in (Tensor, nn.Parameter)
    return is_plain and parameter.device.type == "cpu" and parameter.dtype in (torch.float32, torch.float64)
