"""Callbacks that watch a training without changing it; each is imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

__all__ = [
    "CKASimilarity",
    "Diagnostic",
    "DiagonalDominance",
    "DominantProjection",
    "FieldSnapshot",
    "GradientAlignment",
    "HeavyTail",
    "HessianSpectrum",
    "KCESPreprocessing",
    "LayerSplit",
    "LossLandscape",
    "Measurement",
    "ModeConnectivity",
    "RandomState",
    "RefinementCurve",
    "RegimeDetection",
    "RegimeGuidedOptimizer",
]

_SUBMODULES = {
    "CKASimilarity": "cka_similarity",
    "DiagonalDominance": "diagonal_dominance",
    "Diagnostic": "diagnostic",
    "DominantProjection": "dominant_projection",
    "FieldSnapshot": "field_snapshot",
    "GradientAlignment": "gradient_alignment",
    "HeavyTail": "heavy_tail",
    "HessianSpectrum": "hessian_spectrum",
    "KCESPreprocessing": "kces_preprocessing",
    "LayerSplit": "layer_split",
    "LossLandscape": "loss_landscape",
    "Measurement": "measurement",
    "ModeConnectivity": "mode_connectivity",
    "RandomState": "random_state",
    "RefinementCurve": "refinement_curve",
    "RegimeDetection": "regime_detection",
    "RegimeGuidedOptimizer": "regime_guided_optimizer",
}

if TYPE_CHECKING:
    from lightning_regimes.callbacks.cka_similarity import CKASimilarity
    from lightning_regimes.callbacks.diagnostic import Diagnostic
    from lightning_regimes.callbacks.diagonal_dominance import DiagonalDominance
    from lightning_regimes.callbacks.dominant_projection import DominantProjection
    from lightning_regimes.callbacks.field_snapshot import FieldSnapshot
    from lightning_regimes.callbacks.gradient_alignment import GradientAlignment
    from lightning_regimes.callbacks.heavy_tail import HeavyTail
    from lightning_regimes.callbacks.hessian_spectrum import HessianSpectrum
    from lightning_regimes.callbacks.kces_preprocessing import KCESPreprocessing
    from lightning_regimes.callbacks.layer_split import LayerSplit
    from lightning_regimes.callbacks.loss_landscape import LossLandscape
    from lightning_regimes.callbacks.measurement import Measurement
    from lightning_regimes.callbacks.mode_connectivity import ModeConnectivity
    from lightning_regimes.callbacks.random_state import RandomState
    from lightning_regimes.callbacks.refinement_curve import RefinementCurve
    from lightning_regimes.callbacks.regime_detection import RegimeDetection
    from lightning_regimes.callbacks.regime_guided_optimizer import RegimeGuidedOptimizer

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)
