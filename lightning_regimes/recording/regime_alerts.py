"""Which verdicts are worth interrupting someone for."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lightning_regimes.recording.record import Record

_DIVERGED = "DIVERGED"


@dataclass(frozen=True)
class Alert:
    """A message to whoever watches the run from afar.

    Attributes:
        title: At most 63 characters.
        text: What was measured, and what to do about it.
        level: ``"ERROR"`` where training is lost, ``"WARN"`` where it got worse, ``"INFO"`` otherwise.
    """

    title: str
    text: str
    level: Literal["INFO", "WARN", "ERROR"]


class RegimeAlerts:
    """Finds in the records of a run each change of regime, and divergence.

    A regime is announced once, when it first takes the place of another; a run that goes back and forth between two
    of them does not repeat itself. Divergence is announced even as the first verdict.
    """

    def __init__(self) -> None:
        self._label: str | None = None
        self._announced: set[str] = set()

    def look(self, record: Record) -> Iterator[Alert]:
        """Yield the alert that a record calls for, if any."""
        label = record.text.get("regime/label")
        if label is None:
            loss = record.scalars.get("regime/normalized_loss")
            label = _DIVERGED if loss is not None and not math.isfinite(loss) else None
        if label is None:
            return
        before, self._label = self._label, label
        changed = before is not None and label != before
        if (changed or label == _DIVERGED) and label not in self._announced:
            yield Alert(_title(before, label), _text(record), _level(label))
        # Where the run began is not worth a word when it comes back there.
        self._announced.add(label)


def _title(before: str | None, label: str) -> str:
    if label == _DIVERGED:
        return "Training diverged"
    return f"Training is now {_displayed(label)}, it was {_displayed(str(before))}"


def _displayed(label: str) -> str:
    return label.lower().replace("_", "-")


def _level(label: str) -> Literal["INFO", "WARN", "ERROR"]:
    if label == _DIVERGED:
        return "ERROR"
    return "INFO" if label == "WELL_TRAINED" else "WARN"


def _text(record: Record) -> str:
    reasons = [str(reason) for reason in record.context.get("reasons", ())]
    guidance = str(record.context.get("guidance", ""))
    return "\n".join(filter(None, (f"At step {record.step}.", *reasons, guidance)))
