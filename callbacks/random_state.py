"""Random generators that go on where a checkpoint left them."""

from __future__ import annotations

import random
from typing import Any

import lightning as L
import numpy as np
import torch


class RandomState(L.Callback):
    """Keeps the states of torch's, NumPy's and Python's global generators in checkpoints, and resumes from them.

    Lightning restores neither: a resumed run draws other dropout masks and other orders of the data than the
    uninterrupted one. With this callback both draw the same, on the same devices; only the place in a shuffled epoch
    is still lost when a checkpoint was written within it. It changes what a resumed run draws, and is therefore not
    part of any diagnostic.
    """

    def __init__(self) -> None:
        self._within_epoch = False
        self._restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The states, as tensors and plain numbers."""
        version, words, gauss = random.getstate()
        numpy: Any = np.random.get_state()
        return {
            "within_epoch": self._within_epoch,
            "python": (version, list(words), gauss),
            "numpy": (numpy[0], torch.from_numpy(numpy[1].astype(np.int64)), *map(int, numpy[2:4]), float(numpy[4])),
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the states until the moment at which they were taken."""
        self._restored = state_dict

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore what was saved between epochs: the next iterator over the data draws from it."""
        if self._restored is not None and not self._restored["within_epoch"]:
            self._restore()

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Restore what was saved within an epoch: the iterator over the data has drawn already."""
        self._within_epoch = True
        if self._restored is not None:
            self._restore()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the end of the epoch."""
        self._within_epoch = not trainer.is_last_batch

    def _restore(self) -> None:
        state, self._restored = self._restored, None
        if state is None:
            return
        version, words, gauss = state["python"]
        random.setstate((version, tuple(words), gauss))
        name, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])
