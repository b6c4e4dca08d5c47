"""Callbacks that watch a training without changing it; each is imported when first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["Diagnostic", "FieldSnapshot", "HessianSpectrum", "Measurement", "RandomState", "RegimeDetection"]

_SUBMODULES = {
    "Diagnostic": "diagnostic",
    "FieldSnapshot": "field_snapshot",
    "HessianSpectrum": "hessian_spectrum",
    "Measurement": "diagnostic",
    "RandomState": "random_state",
    "RegimeDetection": "regime_detection",
}

if TYPE_CHECKING:
    from lightning_regimes.callbacks.diagnostic import Diagnostic, Measurement
    from lightning_regimes.callbacks.field_snapshot import FieldSnapshot
    from lightning_regimes.callbacks.hessian_spectrum import HessianSpectrum
    from lightning_regimes.callbacks.random_state import RandomState
    from lightning_regimes.callbacks.regime_detection import RegimeDetection


def __getattr__(name: str) -> Any:
    if name not in _SUBMODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_SUBMODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
