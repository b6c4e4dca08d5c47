"""Which training steps hand their values to Lightning."""

from __future__ import annotations

import lightning as L


def is_logged_step(module: L.LightningModule) -> bool:
    """Return whether values of the current training step are going to be seen.

    Handing values to Lightning takes a noticeable part of a small step: hand over those that are written, and the
    epoch's last for callbacks that monitor them.

    Args:
        module: attached to a trainer or not.
    """
    if module._trainer is None:
        return False
    trainer = module.trainer
    every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
    return bool(trainer.is_last_batch or (module.global_step + 1) % every == 0)
