"""What a training says at its end about what was measured: what it ended as, and how to see more."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import lightning as L
from lightning.pytorch.utilities import rank_zero_info

from lightning_regimes.recording import Journal


def say_where_records_are(trainer: L.Trainer, journal: Journal | None, words: Iterable[str]) -> None:
    """Print which command shows the records, after what the diagnostics have to say.

    Nothing is printed where there are no records, or where the command ``lightning-regimes`` has its own summary.

    Args:
        trainer: at the end of its training.
        journal: of the run, none in processes that do not record.
        words: of the diagnostics, empty where one has none.
    """
    if journal is None or not journal.path.is_file() or getattr(trainer, "regimes_summary_follows", False):
        return
    run, here = journal.directory.parent.absolute(), Path.cwd()
    shown = run.relative_to(here) if run.is_relative_to(here) else run
    said = " ".join(word for word in words if word)
    rank_zero_info(f"{said} See more with: lightning-regimes report {shown}".lstrip())
