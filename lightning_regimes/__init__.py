"""Which training regime a Lightning run is in, why, and what to do about it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = ["LossProbe", "ProbeError", "__version__"]

_SUBMODULES = {"LossProbe": "probe", "ProbeError": "probe"}

if TYPE_CHECKING:
    from lightning_regimes.probe import LossProbe, ProbeError


def __getattr__(name: str) -> Any:
    if name not in _SUBMODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_SUBMODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
