"""How long a training will still take."""

from __future__ import annotations

import math

import lightning as L


def seconds_ahead(trainer: L.Trainer, *, seconds_per_batch: float, num_steps: int, num_batches: int) -> float:
    """Return the seconds until training ends, by steps, epochs or a Timer; infinite where no end is known.

    Args:
        trainer: the running one.
        seconds_per_batch: what a batch has taken.
        num_steps: optimizer steps in this call of ``fit``.
        num_batches: batches in this call of ``fit``.
    """
    by_batches = batches_ahead(trainer, num_steps=num_steps, num_batches=num_batches)
    found = seconds_per_batch * by_batches
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        # By its name, since `pytorch_lightning` has one of its own.
        if type(callback).__name__ == "Timer":
            remaining = callback.time_remaining()
            found = found if remaining is None else min(found, remaining)
    return found


def batches_ahead(trainer: L.Trainer, *, num_steps: int, num_batches: int) -> float:
    """Return how many batches training will still see, infinite where it does not end by count."""
    by_steps, by_epochs = math.inf, math.inf
    if trainer.max_steps is not None and trainer.max_steps >= 0:
        # Several optimizers advance the step by more than one in a batch, accumulation by less.
        batches_per_step = num_batches / num_steps if num_steps > 0 else trainer.accumulate_grad_batches
        by_steps = (trainer.max_steps - trainer.global_step) * batches_per_step
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        by_epochs = (trainer.max_epochs - trainer.current_epoch) * trainer.num_training_batches - done
    return max(min(by_steps, by_epochs), 0.0)
