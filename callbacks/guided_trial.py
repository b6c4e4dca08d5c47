"""A change of the training that has to prove itself, and the way back from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch

# Loss to judge by above which a change counts as one for the worse, in units of the one before it.
_WORSE = 1.1
# A change may unsettle a training at first.
_CHECKS = 2


@dataclass
class Trial:
    """What was changed, and what the loss was before.

    Attributes:
        remedy: the change.
        judged: loss by which it is judged, before it.
        path: checkpoint of before it.
        checks: since the change, or since another that is judged together with it.
        passed: whether it has proved itself; the checkpoint remains the way back from a loss that is not finite.
    """

    remedy: str
    judged: float
    path: str
    checks: int = 0
    passed: bool = False

    @property
    def is_due(self) -> bool:
        """Whether it is time to judge."""
        return not self.passed and self.checks >= _CHECKS

    def fails(self, judged: float) -> bool:
        """Whether it is time to judge, and the loss is higher than before, or not a number."""
        return self.is_due and not judged <= _WORSE * self.judged


def stored_training(path: str | Path) -> dict[str, Any] | None:
    """Return a checkpoint, None where its file is gone."""
    return torch.load(path, map_location="cpu", weights_only=False) if Path(path).is_file() else None


def put_back_optimizers(trainer: L.Trainer, stored: dict[str, Any]) -> None:
    """Load the state of optimizers and schedules from a checkpoint that was written under the same ones."""
    for optimizer, state in zip(trainer.optimizers, stored["optimizer_states"], strict=True):
        optimizer.load_state_dict(state)
    for entry, state in zip(trainer.lr_scheduler_configs, stored["lr_schedulers"], strict=True):
        entry.scheduler.load_state_dict(state)
