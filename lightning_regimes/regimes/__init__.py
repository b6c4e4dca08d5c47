"""Regimes of training: the rule, its thresholds and what each regime calls for."""

from lightning_regimes.regimes.advice import guidance
from lightning_regimes.regimes.classification import (
    Regime,
    RegimeReport,
    RegimeThresholds,
    classify,
    loss_trend,
)

__all__ = ["Regime", "RegimeReport", "RegimeThresholds", "classify", "guidance", "loss_trend"]
