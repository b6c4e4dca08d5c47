"""What runs the cells of a sweep: one interface for processes of this machine and for a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lightning_regimes.sweep.trial import Trial

Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """How a cell ended.

    Attributes:
        trial: the cell.
        row: what the function returned; None for a cell that failed.
        error: what went wrong, one sentence; None for a cell that ended well.
        attempts: how often it was started; more than once where a worker was lost.
    """

    trial: Trial
    row: Row | None
    error: str | None = None
    attempts: int = 1


class Engine(Protocol):
    """Runs a function on every trial, several at a time."""

    def map(self, function: Callable[[Trial], Row], trials: Sequence[Trial]) -> Iterator[Result]:
        """Yield the result of each trial as it ends, in any order; a trial that fails doesn't stop the others.

        Args:
            function: importable by name in another process.
            trials: the cells.
        """
        ...
