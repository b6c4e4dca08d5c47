"""LightningDataModules; each loads when it's first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_regimes.datamodules.collocation import Collocation
    from lightning_regimes.datamodules.digits import HandwrittenDigits
    from lightning_regimes.datamodules.gaussian_noise import GaussianNoise
    from lightning_regimes.datamodules.linear_teacher import LinearTeacher
    from lightning_regimes.datamodules.ode_trajectories import ODETrajectories
    from lightning_regimes.datamodules.text_tokens import TextTokens

_SUBMODULES = {
    "HandwrittenDigits": "digits",
    "Collocation": "collocation",
    "GaussianNoise": "gaussian_noise",
    "LinearTeacher": "linear_teacher",
    "ODETrajectories": "ode_trajectories",
    "TextTokens": "text_tokens",
}

__all__ = [
    "Collocation",
    "GaussianNoise",
    "HandwrittenDigits",
    "LinearTeacher",
    "ODETrajectories",
    "TextTokens",
]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)
