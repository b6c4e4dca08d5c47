"""Whether the evaluation of a loss changes anything that the next one meets, or the next one itself."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.batches import same_tensors, tensors_of
from lightning_regimes.probe import LossProbe, ProbeError


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


class Repetition:
    """Holds what a loss gives at one point, which it has to give there again at any later time.

    A loss that doesn't has state of its own: a counter, a weight that adapts, a generator. What it gives at one point
    depends on which others have been visited before, so that it is no function of the parameters.

    Args:
        probe: of the loss.
        evaluate: returns some values of the loss at the point; to be called inside one ``probe.isolated()``, at the end
            of which the state would be put back.
    """

    def __init__(self, probe: LossProbe, evaluate: Callable[[], Tensor]) -> None:
        # A GPU may add up in another order each time.
        self._tolerance = 0.0 if probe.device.type == "cpu" else torch.finfo(probe.dtype).eps ** 0.5
        self._evaluate = evaluate
        #: What the loss gave at first.
        self.values = evaluate()

    def require(self) -> None:
        """Evaluate once more.

        Raises:
            ProbeError: the values are others.
        """
        if not torch.allclose(self._evaluate(), self.values, rtol=self._tolerance, atol=0.0, equal_nan=True):
            raise ProbeError(
                "the loss changes from one evaluation to the next although parameters, buffers and random generators "
                "are the same, so that it has state of its own, such as a counter, an adaptive weight or a generator; "
                "give the module a method `diagnostic_loss(batch)`, or pass a `loss` or `metric`, that has none"
            )


def batch_values(probe: LossProbe) -> Tensor:
    """Return the losses of the batches of this process, detached, shape (num_batches,)."""
    return torch.stack([probe.batch_value(index).detach() for index in range(probe.num_batches)])
