"""Where the files of a run go."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning_regimes.recording.journal import RECORDS_DIRECTORY

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

_ATTRIBUTE = "regimes_run_directory"


def run_directory(trainer: "Trainer") -> Path:
    """Decide the directory of this run, the same for all callbacks of one trainer.

    In this order: ``trainer.regimes_run_directory`` where something set it (the command line does); the folder of the
    first logger, ``log_dir`` where it has one and else ``save_dir/name/version``, which is where ``ModelCheckpoint``
    puts its ``checkpoints``; a new ``<default_root_dir>/regime_runs/run_<n>``, remembered on the trainer.
    Involves no collective: only rank zero writes, and only rank zero makes the new folder.

    Raises:
        ValueError: If the directory lies on a remote file system; records are written through local files.
    """
    if chosen := getattr(trainer, _ATTRIBUTE, None):
        return _local(chosen)
    if trainer.loggers and (directory := _logger_directory(trainer.loggers[0], trainer.default_root_dir)):
        return _local(directory)
    root = _local(trainer.default_root_dir) / "regime_runs"
    if not trainer.is_global_zero:
        return root
    directory = _new_directory(root)
    setattr(trainer, _ATTRIBUTE, directory)
    return directory


def records_directory(trainer: "Trainer") -> Path:
    """Directory of this run's journal, ``<run directory>/regimes``."""
    return run_directory(trainer) / RECORDS_DIRECTORY


def _logger_directory(logger: Any, default_root_dir: str) -> Path | None:
    # Lightning's placeholder logger of fast_dev_run answers every attribute with a function, hence the type checks.
    log_dir = getattr(logger, "log_dir", None)
    if isinstance(log_dir, str | os.PathLike):
        return Path(log_dir) if "://" not in str(log_dir) else _local(log_dir)
    name, version = logger.name, logger.version
    if isinstance(version, int):
        version = f"version_{version}"
    if not version:
        return None
    return _local(logger.save_dir or default_root_dir) / str(name or "") / str(version)


def _local(directory: str | os.PathLike[str]) -> Path:
    if "://" in os.fspath(directory):
        raise ValueError(
            f"The run directory must be local, got {os.fspath(directory)!r}; "
            f"set trainer.{_ATTRIBUTE} to a local folder."
        )
    return Path(directory)


def _new_directory(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        directory = root / f"run_{number}"
        try:
            directory.mkdir()
        except FileExistsError:
            number += 1
        else:
            return directory
