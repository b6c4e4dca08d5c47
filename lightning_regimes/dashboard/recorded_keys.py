"""Which quantities a run has anything of."""

import os
from pathlib import Path

from lightning_regimes.dashboard.wandb_file import read_wandb_file
from lightning_regimes.recording import has_records, read_records


def recorded_keys(directory: str | os.PathLike[str]) -> tuple[set[str], str]:
    """Return the keys of a run, and what tells them.

    W&B's own file tells of pictures and charts, too, which records leave out.

    Args:
        directory: The run directory.

    Raises:
        FileNotFoundError: If the directory holds neither a W&B run nor records.
    """
    run = Path(directory)
    files = sorted(run.glob("wandb/*run-*/*.wandb"))
    if files:
        rows = [row for file in files for row in read_wandb_file(file).history]
        return {key for row in rows for key in row}, "the run's W&B file"
    if has_records(run):
        records = read_records(run)
        keys = {
            key
            for record in records
            for part in (record.scalars, record.text, record.arrays, record.tables)
            for key in part
        }
        return keys, "the run's records, which hold no pictures and charts; a W&B logger was not there"
    raise FileNotFoundError(
        f"{os.fspath(directory)!r} holds neither a W&B run nor records; give the directory of a run that had a "
        "diagnostic among its callbacks."
    )
