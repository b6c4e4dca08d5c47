"""Regimes of training: the rule, its thresholds and what each regime calls for."""

from lightning_regimes.regimes.advice import Guidance, guidance
from lightning_regimes.regimes.classification import (
    Regime,
    RegimeReport,
    RegimeThresholds,
    classify,
    loss_trend,
)
from lightning_regimes.regimes.guidance import GUIDANCE_TABLE, GuidanceRow, Remedy, remedies
from lightning_regimes.regimes.model_family import ModelFamily, model_family

__all__ = [
    "GUIDANCE_TABLE",
    "Guidance",
    "GuidanceRow",
    "ModelFamily",
    "Regime",
    "RegimeReport",
    "RegimeThresholds",
    "Remedy",
    "classify",
    "guidance",
    "loss_trend",
    "model_family",
    "remedies",
]
