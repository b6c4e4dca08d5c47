"""LightningModules; each loads when it's first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_regimes.modules.augmented_lagrangian import AugmentedLagrangian
    from lightning_regimes.modules.classifier import Classifier
    from lightning_regimes.modules.curriculum import Curriculum
    from lightning_regimes.modules.pinn import PINN
    from lightning_regimes.modules.region_sampling import RegionSampling

_SUBMODULES = {
    "Classifier": "classifier",
    "AugmentedLagrangian": "augmented_lagrangian",
    "Curriculum": "curriculum",
    "PINN": "pinn",
    "RegionSampling": "region_sampling",
}

__all__ = ["PINN", "AugmentedLagrangian", "Classifier", "Curriculum", "RegionSampling"]


def __getattr__(name: str) -> Any:
    if name not in _SUBMODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_SUBMODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
