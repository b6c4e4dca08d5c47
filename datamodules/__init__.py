"""LightningDataModules; each loads when it's first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_regimes.datamodules.collocation import Collocation
    from lightning_regimes.datamodules.digits import HandwrittenDigits

_SUBMODULES = {
    "HandwrittenDigits": "digits",
    "Collocation": "collocation",
}

__all__ = ["Collocation", "HandwrittenDigits"]


def __getattr__(name: str) -> Any:
    if name not in _SUBMODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_SUBMODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
