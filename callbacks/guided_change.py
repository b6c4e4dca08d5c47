"""What a remedy changes about a training, and which remedies are exhausted with it."""

from __future__ import annotations

from typing import Any

import lightning as L

from lightning_regimes.callbacks.guided_settings import GuidedSettings
from lightning_regimes.regimes import Remedy


def changed_settings(
    remedy: Remedy, settings: GuidedSettings, *, num_stages: int, renew_points: bool, full_batches: bool
) -> GuidedSettings:
    """Return the settings after a remedy; those that concern the optimizer's own groups leave them as they are.

    Args:
        remedy: what is applied.
        settings: those of before.
        num_stages: of a curriculum.
        renew_points: whether a curriculum draws new points.
        full_batches: whether L-BFGS is available, under which a curriculum then runs.
    """
    match remedy:
        case Remedy.QUASI_NEWTON:
            return settings.changed(optimizer="quasi_newton")
        case Remedy.NEWTON:
            return settings.changed(optimizer="newton")
        case Remedy.DOUBLE_PRECISION:
            return settings.changed(double=True)
        case Remedy.CURRICULUM:
            optimizer = "quasi_newton" if full_batches else settings.optimizer
            draw = settings.draw + renew_points
            return settings.changed(stage=1, num_stages=num_stages, optimizer=optimizer, draw=draw)
        case Remedy.AUGMENTED_LAGRANGIAN:
            return settings.changed(conditions="augmented_lagrangian")
        case Remedy.MORE_POINTS:
            return settings.changed(factor=2 * settings.factor, draw=settings.draw + 1)
        case _:
            return settings


def exhausted(remedy: Remedy, settings: GuidedSettings, *, max_point_factor: int) -> frozenset[Remedy]:
    """Return the remedies that are of no more use once one has led to these settings."""
    if remedy is Remedy.AUGMENTED_LAGRANGIAN:
        # Multipliers belong to points; those must stay.
        return frozenset({remedy, Remedy.MORE_POINTS})
    once = remedy in (Remedy.CURRICULUM, Remedy.WEIGHT_DECAY)
    last = remedy is Remedy.MORE_POINTS and 2 * settings.factor > max_point_factor
    return frozenset({remedy}) if once or last else frozenset()


def set_weight_decay(trainer: L.Trainer, weight_decay: float) -> None:
    """Set the decay of all parameters."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["weight_decay"] = weight_decay


def halve_learning_rate(trainer: L.Trainer) -> None:
    """Halve the learning rate of all parameters, and what schedules make of it from here on."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] /= 2
    for entry in trainer.lr_scheduler_configs:
        schedule: Any = entry.scheduler
        if hasattr(schedule, "base_lrs"):
            schedule.base_lrs = [rate / 2 for rate in schedule.base_lrs]
