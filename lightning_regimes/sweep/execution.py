"""Run what is left of a sweep, and keep what each cell found."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_regimes.sweep.engine import Engine, Result, Row
from lightning_regimes.sweep.exclusive_lock import ExclusiveLock
from lightning_regimes.sweep.ledger import Ledger
from lightning_regimes.sweep.trial import Trial

LOCK_FILE = "lock"
FINISHED, FAILED = "finished", "failed"


def run_sweep(
    trials: Sequence[Trial],
    directory: str | os.PathLike[str],
    *,
    function: Callable[[Trial], Row],
    engine: Engine,
    seed: str | None = None,
    retry_failed: bool = False,
    on_start: Callable[[int, int], None] | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> list[Row]:
    """Run the trials that have no row yet, and return the rows of all in their order.

    A row is on disk before the next result is looked at, so that after a kill at any moment the same call runs what is
    missing and nothing twice.

    Args:
        trials: the cells.
        directory: of the sweep; one process at a time.
        function: runs a cell and returns what it found.
        engine: where cells run.
        seed: name of the parameter that repeats a cell, which the row names as "seed".
        retry_failed: run cells again that failed before.
        on_start: told how many cells have a row already, and how many there are.
        on_row: told of each new row.

    Raises:
        RuntimeError: another process runs a sweep in this directory.
    """
    with ExclusiveLock(Path(directory) / LOCK_FILE):
        ledger = Ledger(directory)
        rows = ledger.rows()
        keys = {trial.key for trial in trials}
        if retry_failed:
            rows = {key: row for key, row in rows.items() if row.get("status") == FINISHED}
        left = [trial for trial in trials if trial.key not in rows]
        if on_start is not None:
            on_start(len(keys) - len(left), len(keys))
        for result in engine.map(function, left):
            row = _row(result, seed)
            ledger.append(row)
            rows[result.trial.key] = row
            if on_row is not None:
                on_row(row)
    return [rows[trial.key] for trial in trials]


def _row(result: Result, seed: str | None) -> Row:
    parameters = dict(result.trial.parameters)
    row: Row = {
        "key": result.trial.key,
        "status": FAILED if result.row is None else FINISHED,
        "parameters": parameters,
        "attempts": result.attempts,
    }
    if seed is not None:
        row["seed"] = parameters[seed]
    return row | ({"error": result.error} if result.row is None else result.row)
