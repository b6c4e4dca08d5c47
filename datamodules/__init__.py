"""LightningDataModules; each loads when it's first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_regimes.datamodules.collocation import Collocation
    from lightning_regimes.datamodules.digits import HandwrittenDigits

_SUBMODULES = {
    "HandwrittenDigits": "digits",
    "Collocation": "collocation",
}

__all__ = ["Collocation", "HandwrittenDigits"]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)
