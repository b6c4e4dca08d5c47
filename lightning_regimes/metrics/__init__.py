"""Metrics of ``torchmetrics`` form; each loads when it's first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_regimes.metrics.functional import relative_error
    from lightning_regimes.metrics.relative_l2 import RelativeL2

_SUBMODULES = {
    "RelativeL2": "relative_l2",
    "relative_error": "functional",
}

__all__ = ["RelativeL2", "relative_error"]


def __getattr__(name: str) -> Any:
    if name not in _SUBMODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_SUBMODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
