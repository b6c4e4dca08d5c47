"""What W&B keeps of a quantity in a run's summary: its best value where a direction is better, and its last."""

from collections.abc import Iterable
from typing import Any

from lightning_regimes.recording.vocabulary import Direction, describe

_SUMMARIES: dict[Direction, str | None] = {"lower": "min,last", "higher": "max,last", "neither": None}


class MetricSummaries:
    """Tells W&B, once a key, that the summary holds the minimum or the maximum by the vocabulary's direction.

    A quantity with a direction then has ``<key>.min`` or ``<key>.max`` beside ``<key>.last`` in the run's summary; any
    other keeps its last value under its own name.

    Args:
        run: The W&B run.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._defined: set[str] = set()

    def define(self, logger: Any, keys: Iterable[str]) -> None:
        """Define those of the keys that are new; the prefix of their logger is part of the name that W&B knows."""
        for key in keys:
            name = f"{logger._prefix}{logger.LOGGER_JOIN_CHAR}{key}" if logger._prefix else key
            if name in self._defined:
                continue
            self._defined.add(name)
            if summary := _SUMMARIES[describe(key).direction]:
                # A definition of its own does not inherit the x-axis that the logger defined for "*".
                axis = "global_step" if logger._wandb_init.get("sync_tensorboard") else "trainer/global_step"
                self._run.define_metric(name, step_metric=axis, step_sync=True, summary=summary)
