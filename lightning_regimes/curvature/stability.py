"""Up to which curvature the steps of an optimizer are stable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Curvature = Literal["hessian", "preconditioned hessian"]
Options = Mapping[str, Any]


class HasParamGroups(Protocol):
    """What is read of an optimizer: the options in its parameter groups."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """One dictionary of options a group."""
        ...


@dataclass(frozen=True)
class StabilityThreshold:
    r"""The largest stable eigenvalue.

    Attributes:
        value: compare the largest eigenvalue with it; ``None`` if it is not known.
        curvature: whose eigenvalue. ``"hessian"``: H of the loss. ``"preconditioned hessian"``:
            :math:`D^{-1/2} H D^{-1/2}` with D the diagonal that the optimizer divides the momentum by
            (:math:`\sqrt{\hat v} + \epsilon` for Adam); with coupled weight decay w, of H + w I.
        reason: why the value is not known, otherwise ``None``.
    """

    value: float | None
    curvature: Curvature | None
    reason: str | None = None


def stability_threshold(optimizer: HasParamGroups) -> StabilityThreshold:
    r"""Return the curvature above which the steps of an optimizer on a quadratic grow instead of shrink.

    For the learning rate η, momentum β and weight decay w of a parameter group:

    ============================  =====================================================  =======================
    optimizer                     threshold                                              curvature
    ============================  =====================================================  =======================
    SGD                           2/η − w                                                Hessian
    SGD, heavy ball               (2 + 2β) / (η (1 − dampening)) − w                     Hessian
    SGD, Nesterov                 (2 + 2β) / (η (1 + 2β)) − w                            Hessian
    RMSprop                       (2 + 2β) / η                                           preconditioned Hessian
    Adam, Adamax                  (2 + 2β₁) / (η (1 − β₁))                               preconditioned Hessian
    AdamW                         (2 − η w) (1 + β₁) / (η (1 − β₁))                      preconditioned Hessian
    NAdam                         (2 + 2β₁) / (η (1 + β₁ − 2 μ β₁))                      preconditioned Hessian
    ============================  =====================================================  =======================

    Full-batch, with the preconditioner held fixed, after the bias correction has faded; μ is NAdam's momentum at the
    optimizer's present step. The smallest value over the groups is returned. The kind of optimizer is told by its
    class's name or that of a base class.

    References:
        Cohen, Kaur, Li, Kolter, Talwalkar, Gradient descent on neural networks typically occurs at the edge of
        stability, arXiv:2103.00065; Cohen et al., Adaptive gradient methods at the edge of
        stability, arXiv:2207.14484.
    """
    names = [cls.__name__ for cls in type(optimizer).__mro__]
    name = next((name for name in names if name in _RULES), None)
    if name is None:
        return StabilityThreshold(None, None, f"no stability threshold is known for {names[0]}")
    if any(group.get("maximize", False) for group in optimizer.param_groups):
        return StabilityThreshold(None, None, "the optimizer maximizes")
    curvature, rule = _RULES[name]
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    values = [
        rule(rate, group | {"step": _step(optimizer, group)}) if rate > 0 else math.inf
        for rate, group in zip(rates, optimizer.param_groups, strict=True)
    ]
    return StabilityThreshold(min(values), curvature)


def _step(optimizer: HasParamGroups, group: Options) -> float:
    states = getattr(optimizer, "state", {})
    steps = [float(states[parameter].get("step", 0)) for parameter in group["params"] if parameter in states]
    return max(steps, default=0.0)


def _sgd(rate: float, options: Options) -> float:
    momentum = options.get("momentum", 0.0)
    threshold = (2 + 2 * momentum) / rate
    if options.get("nesterov", False):
        threshold /= 1 + 2 * momentum
    elif momentum:
        threshold /= 1 - options.get("dampening", 0.0)
    return float(threshold - options.get("weight_decay", 0.0))


def _rmsprop(rate: float, options: Options) -> float:
    return float((2 + 2 * options.get("momentum", 0.0)) / rate)


def _adam(rate: float, options: Options) -> float:
    momentum = float(options["betas"][0])
    return (2 - rate * _decoupled_decay(options)) * (1 + momentum) / (rate * (1 - momentum))


def _adamw(rate: float, options: Options) -> float:
    return _adam(rate, {**options, "decoupled_weight_decay": True})


def _nadam(rate: float, options: Options) -> float:
    average = float(options["betas"][0])
    # The momentum that is mixed with the gradient rises to the decay of its average over thousands of steps.
    momentum = average * (1 - 0.5 * 0.96 ** ((options["step"] + 1) * options["momentum_decay"]))
    decay = _decoupled_decay(options)
    return float((2 - rate * decay) * (1 + average) / (rate * (1 + average - 2 * momentum * average)))


def _decoupled_decay(options: Options) -> float:
    return float(options.get("weight_decay", 0.0)) if options.get("decoupled_weight_decay", False) else 0.0


_RULES: dict[str, tuple[Curvature, Callable[[float, Options], float]]] = {
    "SGD": ("hessian", _sgd),
    "RMSprop": ("preconditioned hessian", _rmsprop),
    "Adam": ("preconditioned hessian", _adam),
    "AdamW": ("preconditioned hessian", _adamw),
    "Adamax": ("preconditioned hessian", _adam),
    "NAdam": ("preconditioned hessian", _nadam),
}
