"""How far the curvature is from where the optimizer's steps become unstable, as it is recorded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.curvature import LinearOperator, edge_of_stability, stability_threshold


def preconditions(optimizers: Sequence[Any]) -> bool:
    """Whether a single optimizer is judged by the Hessian that its preconditioner makes, which takes a search."""
    return len(optimizers) == 1 and stability_threshold(optimizers[0]).curvature == "preconditioned hessian"


def measure_stability(
    operator: LinearOperator, optimizers: Sequence[Any], parameters: Sequence[Tensor], *, sharpness: float, tol: float
) -> Measurement:
    """Hold the largest eigenvalue that the optimizer meets against the largest that it can bear.

    Args:
        operator: the Hessian.
        optimizers: of the training; only a single one is judged.
        parameters: the optimizer's own, in the order of the operator.
        sharpness: the largest eigenvalue of the Hessian.
        tol: relative residual of that of the preconditioned Hessian, where that is what counts.
    """
    if len(optimizers) != 1:
        return Measurement(context={"stability": f"{len(optimizers)} optimizers share the parameters"})
    threshold = stability_threshold(optimizers[0])
    context = {"optimizer": type(optimizers[0]).__name__}
    if threshold.value is None or not math.isfinite(threshold.value):
        return Measurement(context=context | {"stability": threshold.reason or "the learning rate is zero"})
    if threshold.curvature == "hessian":
        scalars = {
            "hessian/stability_threshold": threshold.value,
            "hessian/sharpness_ratio": sharpness / threshold.value,
        }
        return Measurement(scalars=scalars, context=context)
    try:
        edge = edge_of_stability(operator, optimizers[0], parameters, tol=tol)
    except ValueError as error:  # before the first step there is no preconditioner
        return Measurement(context=context | {"stability": str(error)})
    scalars = {
        "hessian/preconditioned_lambda_1": edge.sharpness,
        "hessian/preconditioned_stability_threshold": edge.threshold,
        "hessian/sharpness_ratio": edge.ratio,
    }
    return Measurement(scalars=scalars, context=context | {"stability_num_matvecs": edge.num_matvecs})
