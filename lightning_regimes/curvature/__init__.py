"""Curvature of the training loss: operators, eigenvalues, traces and what they say about the step size."""

from lightning_regimes.curvature.krylov import Eigenpairs, eigsh
from lightning_regimes.curvature.linear_operator import LinearOperator
from lightning_regimes.curvature.operators import HessianOperator
from lightning_regimes.curvature.spectrum import gap_index
from lightning_regimes.curvature.stability import StabilityThreshold, stability_threshold
from lightning_regimes.curvature.trace import Estimate, trace

__all__ = [
    "Eigenpairs",
    "Estimate",
    "HessianOperator",
    "LinearOperator",
    "StabilityThreshold",
    "eigsh",
    "gap_index",
    "stability_threshold",
    "trace",
]
