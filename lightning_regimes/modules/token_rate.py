"""How many tokens a training takes in a second."""

from __future__ import annotations

import time
from collections import deque


class TokenRate:
    """Tokens per second of wall time over the last batches, the loading of data included.

    Args:
        window: number of batches.
    """

    def __init__(self, window: int = 50) -> None:
        self._batches: deque[tuple[int, float]] = deque(maxlen=window)
        self._mark = time.perf_counter()

    def resume(self) -> None:
        """Count time from now on; what has passed since the last batch, such as a validation, doesn't count."""
        self._mark = time.perf_counter()

    def add(self, num_tokens: int) -> float:
        """Add a batch that is done now, and return tokens per second."""
        now = time.perf_counter()
        self._batches.append((num_tokens, now - self._mark))
        self._mark = now
        tokens, seconds = (sum(column) for column in zip(*self._batches, strict=True))
        return tokens / max(seconds, 1e-9)
