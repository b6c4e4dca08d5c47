"""Curvature of the training loss: operators, eigenvalues, densities, traces and what they say about the step size."""

from lightning_regimes.curvature.adaptive_preconditioner import AdaptivePreconditioner, adaptive_preconditioner
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
from lightning_regimes.curvature.block_structure import BlockStructure, block_structure, row_block_share
from lightning_regimes.curvature.blocks import HessianBlock, block_operators, layers, parameters_of
from lightning_regimes.curvature.curvlinops_operator import to_curvlinops
from lightning_regimes.curvature.density import SpectralDensity, spectral_density
from lightning_regimes.curvature.diagonal import DiagonalEstimate, diagonal
from lightning_regimes.curvature.edge_of_stability import EdgeOfStability, edge_of_stability
from lightning_regimes.curvature.empirical_fisher import EmpiricalFisherOperator
from lightning_regimes.curvature.frobenius import frobenius_norm
from lightning_regimes.curvature.gauss_newton import GaussNewtonOperator
from lightning_regimes.curvature.krylov import Eigenpairs, eigsh
from lightning_regimes.curvature.linear_operator import LinearOperator
from lightning_regimes.curvature.operators import HessianOperator
from lightning_regimes.curvature.preconditioned import PreconditionedOperator
from lightning_regimes.curvature.scipy_operator import ScipyOperator, from_scipy, to_scipy
from lightning_regimes.curvature.sharded_finite_difference import ShardedHessianOperator
from lightning_regimes.curvature.spectrum import gap_index
from lightning_regimes.curvature.stability import StabilityThreshold, stability_threshold
from lightning_regimes.curvature.trace import Estimate, trace

__all__ = [
    "AdaptivePreconditioner",
    "AlignmentReport",
    "BlockStructure",
    "DiagonalEstimate",
    "EdgeOfStability",
    "Eigenpairs",
    "EmpiricalFisherOperator",
    "Estimate",
    "GaussNewtonOperator",
    "HessianBlock",
    "HessianOperator",
    "LinearOperator",
    "PreconditionedOperator",
    "ScipyOperator",
    "ShardedHessianOperator",
    "SpectralDensity",
    "StabilityThreshold",
    "SubspaceTerms",
    "UpdatePrediction",
    "adaptive_preconditioner",
    "alignment_report",
    "block_operators",
    "block_structure",
    "critical_step_size",
    "diagonal",
    "dominant_alignment",
    "edge_of_stability",
    "eigsh",
    "frobenius_norm",
    "from_scipy",
    "gap_index",
    "layers",
    "parameters_of",
    "predict_update",
    "row_block_share",
    "spectral_density",
    "stability_threshold",
    "subspace_overlap",
    "to_curvlinops",
    "to_scipy",
    "trace",
]
