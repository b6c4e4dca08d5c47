"""How far the curvature is from where the steps of an optimizer become unstable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lightning_regimes.curvature.adaptive_preconditioner import adaptive_preconditioner
from lightning_regimes.curvature.krylov import eigsh
from lightning_regimes.curvature.linear_operator import LinearOperator
from lightning_regimes.curvature.preconditioned import PreconditionedOperator
from lightning_regimes.curvature.stability import Curvature, HasParamGroups, stability_threshold


@dataclass(frozen=True)
class EdgeOfStability:
    """The largest eigenvalue that an optimizer meets beside the largest that it can bear.

    Attributes:
        sharpness: largest eigenvalue of ``curvature``.
        residual: its residual, an error bound.
        threshold: the largest stable eigenvalue.
        curvature: of the Hessian, or of the Hessian as the optimizer preconditions it.
        num_matvecs: products with the Hessian that were spent.
    """

    sharpness: float
    residual: float
    threshold: float
    curvature: Curvature
    num_matvecs: int

    @property
    def ratio(self) -> float:
        """Sharpness over threshold: near one is the edge of stability, above it the step is too large."""
        return self.sharpness / self.threshold


def edge_of_stability(
    operator: LinearOperator, optimizer: HasParamGroups, parameters: Sequence[Tensor], *, tol: float = 1e-3
) -> EdgeOfStability:
    r"""Hold the largest eigenvalue of the Hessian, as the optimizer preconditions it, against its stable maximum.

    For Adam and its like that of :math:`D^{-1/2} (H + w I) D^{-1/2}` against
    :math:`(2 + 2 \beta_1) / ((1 - \beta_1) \eta)`; for SGD that of H. See :func:`stability_threshold` and
    :func:`adaptive_preconditioner`. With several learning rates the smallest threshold counts, so that the ratio is an
    upper bound.

    Args:
        operator: the Hessian, symmetric n × n.
        optimizer: whose steps are judged; an adaptive one after its first step.
        parameters: what the operator is the Hessian in, as for :func:`adaptive_preconditioner`.
        tol: relative residual of the eigenvalue.

    Raises:
        ValueError: no threshold or no preconditioner is known, or the learning rate is zero.
        ProbeError: a product is not finite.

    References:
        Cohen, Kaur, Li, Kolter, Talwalkar, arXiv:2103.00065; Cohen et al., arXiv:2207.14484.
    """
    threshold = stability_threshold(optimizer)
    if threshold.value is None or threshold.curvature is None:
        raise ValueError(threshold.reason)
    if not math.isfinite(threshold.value):
        raise ValueError("the learning rate is zero")
    if threshold.curvature != "hessian":
        found = adaptive_preconditioner(optimizer, parameters)
        operator = PreconditionedOperator(operator, found.diagonal, shift=found.weight_decay)
    pairs = eigsh(operator, 1, tol=tol)
    return EdgeOfStability(
        sharpness=float(pairs.values[0]),
        residual=float(pairs.residuals[0]),
        threshold=threshold.value,
        curvature=threshold.curvature,
        num_matvecs=pairs.num_matvecs,
    )
