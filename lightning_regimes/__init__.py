"""Which training regime a Lightning run is in, why, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

__version__ = "0.1.0"

__all__ = ["LossProbe", "ProbeError", "__version__"]

_SUBMODULES = {"LossProbe": "probe", "ProbeError": "probe"}

if TYPE_CHECKING:
    from lightning_regimes.probe import LossProbe, ProbeError

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)
