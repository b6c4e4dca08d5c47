"""Optimizers, and factories that build them for a module."""

from lightning_regimes.optim.factory import (
    AdamFactory,
    AdamThenLBFGSFactory,
    LBFGSFactory,
    OptimizerFactory,
    SGDFactory,
    trainable_parameters,
)
from lightning_regimes.optim.projected import ProjectedOptimizer, ProjectedSGDFactory
from lightning_regimes.optim.staged import AdamThenLBFGS

__all__ = [
    "AdamFactory",
    "AdamThenLBFGS",
    "AdamThenLBFGSFactory",
    "LBFGSFactory",
    "OptimizerFactory",
    "ProjectedOptimizer",
    "ProjectedSGDFactory",
    "SGDFactory",
    "trainable_parameters",
]
