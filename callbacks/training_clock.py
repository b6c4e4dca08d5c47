"""The time that a training has taken, without what its diagnostics took."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch


class TrainingClock:
    """A stopwatch of one training, shared by its diagnostics; it stands still while one of them works."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._paused = 0.0
        self._depth = 0

    def restart(self) -> None:
        """Count from now."""
        self._start, self._paused = time.perf_counter(), 0.0

    @property
    def seconds(self) -> float:
        """Seconds of training since the start; 0 before it."""
        return 0.0 if self._start is None else time.perf_counter() - self._start - self._paused

    @contextlib.contextmanager
    def paused(self, device: torch.device) -> Iterator[None]:
        """Stop for what happens inside; work that the device still owes counts for whoever queued it."""
        self._depth += 1
        _synchronize(device)
        start = time.perf_counter()
        try:
            yield
        finally:
            _synchronize(device)
            self._depth -= 1
            if self._depth == 0:
                self._paused += time.perf_counter() - start


_CLOCKS: WeakKeyDictionary[Any, TrainingClock] = WeakKeyDictionary()


def training_clock(trainer: Any) -> TrainingClock:
    """Return the clock of a trainer."""
    return _CLOCKS.setdefault(trainer, TrainingClock())


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
