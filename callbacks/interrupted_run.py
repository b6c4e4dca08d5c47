"""Which journal a training writes to, when it goes on with an interrupted one."""

from __future__ import annotations

import lightning as L

from lightning_regimes.recording import Journal, read_records, records_directory


def open_journal(trainer: L.Trainer, interrupted: str | None) -> Journal:
    """Return the journal of the run, that of the interrupted run where it is one.

    From the checkpoint of a run that has finished, another run branches off and has records of its own.

    Args:
        trainer: at the start of its training.
        interrupted: directory of the records of the run whose checkpoint is resumed, if any.
    """
    if interrupted is None:
        return Journal(records_directory(trainer))
    journal = Journal(interrupted)
    goes_on = journal.path.is_file() and not journal.is_finished
    if not goes_on:
        own = Journal(records_directory(trainer))
        if own.directory.resolve() != journal.directory.resolve():
            journal = own
    journal.resume(trainer.global_step)
    return journal


def last_recorded_step(journal: Journal, diagnostic: str) -> int:
    """Return the last optimizer step at which a diagnostic has a record that still counts, -1 if there is none."""
    if not journal.path.is_file():
        return -1
    records = read_records(journal.directory.parent)
    return max((record.global_step for record in records if record.diagnostic == diagnostic), default=-1)
