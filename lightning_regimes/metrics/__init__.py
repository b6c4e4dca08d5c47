"""Metrics of ``torchmetrics`` form; each loads when it's first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_regimes.metrics.functional import relative_error
    from lightning_regimes.metrics.hill_alpha import HillAlpha
    from lightning_regimes.metrics.relative_l2 import RelativeL2
    from lightning_regimes.metrics.spectral_tail import PowerLawTail, eigenvalue_tail, power_law_tail, singular_values

_SUBMODULES = {
    "HillAlpha": "hill_alpha",
    "PowerLawTail": "spectral_tail",
    "RelativeL2": "relative_l2",
    "eigenvalue_tail": "spectral_tail",
    "power_law_tail": "spectral_tail",
    "relative_error": "functional",
    "singular_values": "spectral_tail",
}

__all__ = [
    "HillAlpha",
    "PowerLawTail",
    "RelativeL2",
    "eigenvalue_tail",
    "power_law_tail",
    "relative_error",
    "singular_values",
]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)
