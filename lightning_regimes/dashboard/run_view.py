"""A run as the report looks at it: its records by key."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lightning_regimes.recording import Record, read_records

_TIMED_RUN = re.compile(r"(?P<day>\d{8})-(?P<hour>\d\d)(?P<minute>\d\d)(?P<second>\d\d)-[0-9a-f]{4}")


@dataclass(frozen=True)
class LastValue:
    """The most recent value of a scalar or a text."""

    value: float | str
    step: int


class RunView:
    """Read-only access to what a run recorded.

    Args:
        directory: The run directory.

    Raises:
        FileNotFoundError: If the run has no records.
        ValueError: If its journal holds none.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        self.records = read_records(directory)
        if not self.records:
            raise ValueError(f"the journal of {os.fspath(directory)!r} holds no records; did training start?")

    @property
    def name(self) -> str:
        """``experiment/run``, the last two parts of the directory."""
        return "/".join(self.directory.resolve().parts[-2:])

    @cached_property
    def last(self) -> dict[str, LastValue]:
        """The last value of every scalar and text."""
        found: dict[str, LastValue] = {}
        for record in self.records:
            found |= {key: LastValue(value, record.step) for key, value in record.scalars.items()}
            found |= {key: LastValue(text, record.step) for key, text in record.text.items()}
        return found

    def number(self, key: str) -> float | None:
        """The last value of a scalar, if it was ever recorded."""
        found = self.last.get(key)
        return None if found is None or isinstance(found.value, str) else found.value

    @cached_property
    def verdict(self) -> Record | None:
        """The last record of the regime, labelled or not."""
        return next((record for record in reversed(self.records) if record.diagnostic == "regime"), None)

    @property
    def label(self) -> str | None:
        """The last regime label as people write it, such as ``"well-trained"``."""
        return label_of(self.verdict)

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a scalar over the run, in the order of steps; a remeasured step counts once, its last."""
        points = {record.step: record.scalars[key] for record in self.records if key in record.scalars}
        steps = sorted(points)
        return np.array(steps, dtype=np.int64), np.array([points[step] for step in steps], dtype=np.float64)

    def arrays(self, *keys: str) -> Record | None:
        """The last record that holds all these arrays."""
        return next((record for record in reversed(self.records) if all(key in record.arrays for key in keys)), None)

    def eigenvalue_keys(self) -> list[str]:
        """``hessian/lambda_1``, ``hessian/lambda_2``, … as far as they were recorded."""
        keys: list[str] = []
        while (key := f"hessian/lambda_{len(keys) + 1}") in self.last:
            keys.append(key)
        return keys


def short_names(runs: Sequence[RunView]) -> list[str]:
    """The shortest part of the runs' directories that tells all of them apart: experiment, run, or both.

    Of runs of one day that are named by their time, as the command does, only the time is left.
    """
    parts = [run.directory.resolve().parts[-2:] for run in runs]
    times = [_TIMED_RUN.fullmatch(part[-1]) for part in parts]
    clocks = [f"{time['hour']}:{time['minute']}:{time['second']}" for time in times if time]
    days = {time["day"] for time in times if time}
    if len(set(clocks)) == len(runs) and len(days) == 1:
        parts = [(part[0], clock) for part, clock in zip(parts, clocks, strict=True)]
    for part in (0, 1):
        names = [each[min(part, len(each) - 1)] for each in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part) for part in parts]


def label_of(record: Record | None) -> str | None:
    """The regime label of a record as people write it."""
    label = record.text.get("regime/label") if record else None
    return label.lower().replace("_", "-") if label else None


def generalization(record: Record) -> tuple[float, str] | None:
    """What tells whether a fitted run generalizes, and its name: the error, its estimate, or the held-out loss."""
    evidence = {
        "regime/test_error": "error",
        "regime/estimated_error": "estimated error",
        "regime/normalized_heldout_loss": "held-out loss / reference",
    }
    for key, name in evidence.items():
        if key in record.scalars:
            return record.scalars[key], name
    return None


def generalization_threshold(record: Record, name: str) -> float | None:
    """The threshold for what :func:`generalization` calls by this name."""
    return threshold(record, "error" if name.endswith("error") else "fit")


def threshold(record: Record, name: str) -> float | None:
    """A threshold that the regime was judged by, if the record tells it."""
    thresholds = record.context.get("thresholds")
    value = float(thresholds[name]) if isinstance(thresholds, dict) and name in thresholds else math.nan
    return value if math.isfinite(value) else None
