"""Whether the evaluation of a loss changes anything that the next one meets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lightning_regimes.batches import same_tensors, tensors_of
from lightning_regimes.probe import LossProbe


class SideEffects:
    """Watches the generators, the batches, the parameters and the buffers from when it is made.

    Args:
        probe: whose module is watched, inside ``probe.isolated()``.
        batches: what its loss is evaluated on, copies of all those of the probe.
    """

    def __init__(self, probe: LossProbe, batches: Sequence[Any]) -> None:
        self._probe = probe
        self._batches = batches
        self._state = self._generators()

    def found(self) -> bool:
        """Return whether anything is not as it was."""
        return not self._probe.is_intact() or self._generators() != self._state or not self._same_batches()

    def _same_batches(self) -> bool:
        return all(
            same_tensors(batch, self._probe.batch(index))
            and not any(tensor.requires_grad for tensor in tensors_of(batch))
            for index, batch in enumerate(self._batches)
        )

    def _generators(self) -> tuple[object, ...]:
        device = self._probe.device
        numpy_state: Any = np.random.get_state()
        return (
            torch.get_rng_state().numpy().tobytes(),
            torch.cuda.get_rng_state(device).numpy().tobytes() if device.type == "cuda" else None,
            numpy_state[1].tobytes(),
            numpy_state[2:],
            random.getstate(),
        )
