"""An optimizer whose learning rate follows the length of the training."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
from torch.optim import Optimizer

from lightning_regimes.optim import OptimizerFactory, cosine_with_warmup


def scheduled_optimizer(
    module: L.LightningModule, factory: OptimizerFactory, *, warmup: float | None, min_lr_ratio: float
) -> Any:
    """Return what the factory makes of a module, with a cosine schedule over the training where it brings none.

    Args:
        module: attached to a trainer that knows when training ends.
        factory: of the optimizer.
        warmup: the part of all steps in which the learning rate rises; None for no schedule but the factory's own.
        min_lr_ratio: the part of the learning rate that is left in the end.

    Raises:
        ValueError: the trainer has no end.
    """
    made = factory(module)
    if warmup is None or not isinstance(made, Optimizer):
        return made
    total_steps = module.trainer.estimated_stepping_batches
    if not math.isfinite(total_steps):
        raise ValueError(
            "the schedule of the learning rate needs to know when the training ends: set the trainer's `max_steps` or "
            "`max_epochs`, or `warmup` to None for no schedule"
        )
    if total_steps < 1:  # nothing is going to be trained
        return made
    schedule = cosine_with_warmup(made, total_steps=int(total_steps), warmup=warmup, min_lr_ratio=min_lr_ratio)
    return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
