"""Metrics of ``torchmetrics`` form; each loads when it's first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_regimes.metrics.functional import relative_error
    from lightning_regimes.metrics.relative_l2 import RelativeL2

_SUBMODULES = {
    "RelativeL2": "relative_l2",
    "relative_error": "functional",
}

__all__ = ["RelativeL2", "relative_error"]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)
