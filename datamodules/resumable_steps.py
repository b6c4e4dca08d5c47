"""Batches that a resumed training goes on with where it was."""

from __future__ import annotations

from typing import Any

from lightning_regimes.datamodules.collocation import Steps


class ResumableSteps(Steps):
    """Steps whose batches follow from how many the trainer has had.

    Lightning takes a loader with a state for one that can resume within an epoch, and warns of others. The state is
    empty, since the trainer keeps that number. It would not help to keep it here: a scheduler that asks the trainer for
    the number of steps sets up the loader before the checkpoint is read, and then its state is never restored.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take nothing."""
