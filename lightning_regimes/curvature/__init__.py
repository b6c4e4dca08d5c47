"""Curvature of the training loss: operators, eigenvalues, densities, traces and what they say about the step size."""

from lightning_regimes.curvature.alignment import (
    AlignmentReport,
    SubspaceTerms,
    UpdatePrediction,
    alignment_report,
    critical_step_size,
    dominant_alignment,
    predict_update,
    subspace_overlap,
)
from lightning_regimes.curvature.density import SpectralDensity, spectral_density
from lightning_regimes.curvature.diagonal import DiagonalEstimate, diagonal
from lightning_regimes.curvature.empirical_fisher import EmpiricalFisherOperator
from lightning_regimes.curvature.frobenius import frobenius_norm
from lightning_regimes.curvature.gauss_newton import GaussNewtonOperator
from lightning_regimes.curvature.krylov import Eigenpairs, eigsh
from lightning_regimes.curvature.linear_operator import LinearOperator
from lightning_regimes.curvature.operators import HessianOperator
from lightning_regimes.curvature.spectrum import gap_index
from lightning_regimes.curvature.stability import StabilityThreshold, stability_threshold
from lightning_regimes.curvature.trace import Estimate, trace

__all__ = [
    "AlignmentReport",
    "DiagonalEstimate",
    "Eigenpairs",
    "EmpiricalFisherOperator",
    "Estimate",
    "GaussNewtonOperator",
    "HessianOperator",
    "LinearOperator",
    "SpectralDensity",
    "StabilityThreshold",
    "SubspaceTerms",
    "UpdatePrediction",
    "alignment_report",
    "critical_step_size",
    "diagonal",
    "dominant_alignment",
    "eigsh",
    "frobenius_norm",
    "gap_index",
    "predict_update",
    "spectral_density",
    "stability_threshold",
    "subspace_overlap",
    "trace",
]
