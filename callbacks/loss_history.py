"""A training loss over all steps in bounded memory, kept on the device so that collecting it never waits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


class LossHistory:
    """Losses at evenly spaced calls; when full, every second one is dropped and the spacing doubles.

    Args:
        capacity: largest number of losses kept, at least 2; at least half as many cover the whole training.
    """

    def __init__(self, capacity: int = 1024) -> None:
        if capacity < 2:
            raise ValueError(f"`capacity` is at least 2, got {capacity}")
        self.capacity = capacity
        self._spacing = 1
        self._num_seen = 0
        self._steps: list[int] = []
        self._losses: list[Tensor | float] = []

    def __len__(self) -> int:
        return len(self._steps)

    def append(self, step: int, loss: Tensor) -> None:
        """Take the loss at a step, a tensor with one element on any device; steps do not decrease."""
        self._num_seen += 1
        if (self._num_seen - 1) % self._spacing:
            return
        self._steps.append(step)
        # A number costs a fraction of a tensor, but would make the step wait for an accelerator.
        self._losses.append(loss.item() if loss.device.type == "cpu" else loss.detach().reshape(()).clone())
        if len(self._steps) > self.capacity:
            self._spacing *= 2
            del self._steps[1::2], self._losses[1::2]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and losses as vectors of one length."""
        if not self._steps:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        losses = [loss for loss in self._losses if isinstance(loss, Tensor)]
        on_device = iter(torch.stack(losses).double().tolist() if losses else [])
        values = [next(on_device) if isinstance(loss, Tensor) else loss for loss in self._losses]
        return np.asarray(self._steps), np.asarray(values, dtype=np.float64)

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and tensors."""
        steps, losses = self.arrays()
        numbers = {"spacing": self._spacing, "num_seen": self._num_seen}
        return numbers | {"steps": torch.as_tensor(steps), "losses": torch.as_tensor(losses)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a state."""
        self._spacing = state_dict["spacing"]
        self._num_seen = state_dict["num_seen"]
        self._steps = state_dict["steps"].tolist()
        self._losses = state_dict["losses"].tolist()
