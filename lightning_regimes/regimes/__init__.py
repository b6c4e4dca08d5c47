"""Regimes of training: the rule, its thresholds, what each regime calls for, and phase diagrams of many runs."""

from lightning_regimes.regimes.advice import Guidance, guidance
from lightning_regimes.regimes.classification import (
    Regime,
    RegimeReport,
    RegimeThresholds,
    classify,
    loss_trend,
)
from lightning_regimes.regimes.deceptive_curvature import deceptive_flatness, deceptive_sharpness
from lightning_regimes.regimes.guidance import GUIDANCE_TABLE, GuidanceRow, Remedy, remedies
from lightning_regimes.regimes.load_temperature_phases import LoadTemperaturePhase, load_temperature_phases
from lightning_regimes.regimes.model_family import ModelFamily, model_family
from lightning_regimes.regimes.phase_boundary import PhaseBoundary, phase_boundary
from lightning_regimes.regimes.phase_diagram import PhaseDiagram
from lightning_regimes.regimes.rank_correlation import RankCorrelation, rank_correlation

__all__ = [
    "GUIDANCE_TABLE",
    "Guidance",
    "GuidanceRow",
    "LoadTemperaturePhase",
    "ModelFamily",
    "PhaseBoundary",
    "PhaseDiagram",
    "RankCorrelation",
    "Regime",
    "RegimeReport",
    "RegimeThresholds",
    "Remedy",
    "classify",
    "deceptive_flatness",
    "deceptive_sharpness",
    "guidance",
    "load_temperature_phases",
    "loss_trend",
    "model_family",
    "phase_boundary",
    "rank_correlation",
    "remedies",
]
