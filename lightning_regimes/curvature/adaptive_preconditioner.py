"""By what an adaptive optimizer divides its steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_regimes.curvature.stability import HasParamGroups, Options


@dataclass(frozen=True)
class AdaptivePreconditioner:
    """What an optimizer makes of the Hessian, one real number for each coordinate of the parameters, float64.

    Attributes:
        diagonal: shape (n,); by what the optimizer divides the momentum; infinite where it does not move a parameter.
        weight_decay: shape (n,); the weight decay that it adds to the gradient, and so to the Hessian's diagonal. That
            of a decoupled decay is not part of it.
    """

    diagonal: Tensor
    weight_decay: Tensor


def adaptive_preconditioner(optimizer: HasParamGroups, parameters: Sequence[Tensor]) -> AdaptivePreconditioner:
    r"""Return the diagonal preconditioner of an optimizer's last step.

    =====================  ==================================================================================
    optimizer              diagonal
    =====================  ==================================================================================
    Adam, AdamW, NAdam     :math:`\sqrt{v / (1 - \beta_2^t)} + \epsilon`; with ``amsgrad``, of the largest v
    RMSprop                :math:`\sqrt{v} + \epsilon`; with ``centered``, of :math:`v - \bar g^2`
    Adamax                 :math:`u`, the infinity norm of the past gradients
    =====================  ==================================================================================

    with t, v, ε as the optimizer has them for that parameter. A parameter that is in no group of the optimizer, or
    that has had no gradient yet, is one that the optimizer does not move. The kind of optimizer is told by its class's
    name or that of a base class.

    Args:
        optimizer: after its first step.
        parameters: those of the module, told apart by identity, in the order of the probe's:
            ``[named[name] for name in probe.parameters]`` with ``named = dict(module.named_parameters())``. Complex
            ones count as real views.

    Raises:
        ValueError: no preconditioner is known for the optimizer, it has taken no step, or it has none of the
            parameters.
    """
    names = [cls.__name__ for cls in type(optimizer).__mro__]
    name = next((name for name in names if name in _DIAGONALS), None)
    if name is None:
        raise ValueError(f"no preconditioner is known for {names[0]}")
    diagonal_of = _DIAGONALS[name]
    groups = {id(parameter): group for group in optimizer.param_groups for parameter in group["params"]}
    states: Mapping[Any, Mapping[str, Any]] = getattr(optimizer, "state", {})
    if not any(id(parameter) in groups for parameter in parameters):
        raise ValueError(f"{names[0]} has none of the {len(parameters)} parameters in its groups")

    diagonals, decays = [], []
    for parameter in parameters:
        group, state = groups.get(id(parameter)), states.get(parameter)
        size = parameter.numel() * (2 if parameter.is_complex() else 1)
        if group is None or not state:
            entries, decay = torch.full((size,), math.inf, dtype=torch.float64), 0.0
        else:
            entries, decay = diagonal_of(state, group), _coupled_decay(name, group)
        diagonals.append(entries.to(parameter.device))
        decays.append(torch.full((size,), decay, dtype=torch.float64, device=parameter.device))
    diagonal = torch.cat(diagonals)
    if not bool(torch.isfinite(diagonal).any()):
        raise ValueError(f"{names[0]} has no state yet: its preconditioner is known after the first step")
    return AdaptivePreconditioner(diagonal, torch.cat(decays))


def _coupled_decay(name: str, group: Options) -> float:
    is_decoupled = name == "AdamW" or group.get("decoupled_weight_decay", False)
    return 0.0 if is_decoupled else float(group.get("weight_decay", 0.0))


def _adam(state: Options, group: Options) -> Tensor:
    second_moment: Tensor = state["max_exp_avg_sq"] if group.get("amsgrad", False) else state["exp_avg_sq"]
    correction: float = 1 - float(group["betas"][1]) ** float(state["step"])
    return (_entries(second_moment) / correction).sqrt() + float(group["eps"])


def _rmsprop(state: Options, group: Options) -> Tensor:
    second_moment = _entries(state["square_avg"])
    if group.get("centered", False):
        second_moment = second_moment - _entries(state["grad_avg"]).square()
    return second_moment.sqrt() + float(group["eps"])


def _adamax(state: Options, group: Options) -> Tensor:
    return _entries(state["exp_inf"])


def _entries(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double().reshape(-1)


_DIAGONALS: dict[str, Callable[[Options, Options], Tensor]] = {
    "Adam": _adam,
    "AdamW": _adam,
    "NAdam": _adam,
    "RMSprop": _rmsprop,
    "Adamax": _adamax,
}
