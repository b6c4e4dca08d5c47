"""Where the loss of a module comes from, and whether a probe can follow it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lightning_regimes.module_state import ProbeError

LossFunction = Callable[[Any, Any], Tensor]


def find_loss(module: nn.Module, loss: LossFunction | None) -> tuple[Callable[[Any, Any], Any], str]:
    """Return ``evaluate(module, batch)`` and where it comes from: ``loss``, ``diagnostic_loss`` or ``training_step``.

    Raises:
        TypeError: there is no source, or ``loss`` is not callable.
        ProbeError: the training step would take optimizer steps.
    """
    if loss is not None:
        if not callable(loss):
            raise TypeError(f"`loss` is a callable (module, batch) -> scalar tensor, got {type(loss).__name__}")
        return loss, "loss"
    if callable(getattr(module, "diagnostic_loss", None)):
        return (lambda owner, batch: owner.diagnostic_loss(batch)), "diagnostic_loss"
    if not callable(getattr(module, "training_step", None)):
        raise TypeError(
            f"{type(module).__name__} has neither `diagnostic_loss` nor `training_step`; "
            "pass `loss=` as a callable (module, batch) -> scalar tensor"
        )
    if not getattr(module, "automatic_optimization", True):
        raise ProbeError(
            f"{type(module).__name__} optimizes manually, so its `training_step` would take optimizer steps; "
            "give it a method `diagnostic_loss(batch)` that only returns the loss"
        )
    return _call_training_step, "training_step"


def _call_training_step(module: Any, batch: Any) -> Any:
    parameters = inspect.signature(module.training_step).parameters
    if "dataloader_iter" in parameters:
        raise ProbeError(
            f"`training_step` of {type(module).__name__} takes the loader's iterator; "
            "give the module a method `diagnostic_loss(batch)`"
        )
    # Lightning's own rule for handing over the index.
    positional = [
        parameter
        for parameter in parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    takes_any = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values())
    if len(positional) >= 2 or takes_any:
        return module.training_step(batch, 0)
    return module.training_step(batch)


def refuse_stale_parameters(loss: Tensor, originals: set[int]) -> None:
    """Raise ProbeError if the graph of a loss ends in one of the module's own parameters, known by their ids.

    A probe replaces what the module looks up in its registry; a parameter that it reaches otherwise would silently
    drop out of every derivative.
    """
    seen: set[Any] = set()
    pending = [loss.grad_fn]
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) in originals:
            raise ProbeError(
                f"the loss uses a parameter of shape {tuple(variable.shape)} through a reference beside the module's "
                "attribute (a list, a partial function, an optimizer), where a diagnostic cannot replace it; use the "
                "attribute, or `nn.ParameterList`"
            )
        pending.extend(following for following, _ in node.next_functions)
