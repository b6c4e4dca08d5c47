"""One directory for each run of the command, which no other run can have."""

import os
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import Namespace


def choose_run_directory(experiment: Path, checkpoint: str | os.PathLike[str] | None) -> Path:
    """The run that a checkpoint belongs to, or a new directory ``experiment/<time>-<suffix>``.

    Args:
        experiment: Folder of all runs of the experiment.
        checkpoint: What ``--ckpt_path`` names, if anything.
    """
    if checkpoint is not None and (run := _run_of(Path(checkpoint))):
        return run
    experiment.mkdir(parents=True, exist_ok=True)
    while True:
        directory = experiment / f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        return directory


def remove_if_empty(run: Path | None) -> None:
    """Remove a run directory in which nothing was written, and the folders of runs above it that this leaves empty."""
    for directory in () if run is None else (run, run.parent, run.parent.parent):
        try:
            directory.rmdir()
        except OSError:
            return


def run_of_checkpoint(args: Sequence[str]) -> Path | None:
    """The run directory that the ``--ckpt_path`` among the arguments lies in, if it lies in one.

    Raises:
        FileNotFoundError: If it looks like a file and is not there.
    """
    for position, argument in enumerate(args):
        name, separator, value = argument.partition("=")
        if name == "--ckpt_path" and (separator or position + 1 < len(args)):
            checkpoint = value if separator else args[position + 1]
            require_checkpoint(checkpoint)
            return _run_of(Path(checkpoint))
    return None


def require_checkpoint(checkpoint: str | os.PathLike[str] | None) -> None:
    """Raise FileNotFoundError for a local file that is not there; Lightning's words such as "last" are left to it."""
    name = "" if checkpoint is None else os.fspath(checkpoint)
    if ("/" in name or name.endswith(".ckpt")) and "://" not in name and not Path(name).exists():
        raise FileNotFoundError(f"the checkpoint {name!r} does not exist; give --ckpt_path a saved one.")


def experiment_name(config: "Namespace") -> str:
    """Name an experiment after its first configuration file, or after its model where that tells more."""
    files = config.get("config") or []
    stem = Path(str(files[0])).stem if files else "config"
    return config.model.class_path.rpartition(".")[2] if stem == "config" else stem


def is_unset(save_dir: str | os.PathLike[str] | None) -> bool:
    """Whether a logger was left to write wherever the run is; W&B's default is the current directory."""
    return save_dir is None or os.fspath(save_dir) in ("", ".")


def _run_of(checkpoint: Path) -> Path | None:
    run = checkpoint.parent.parent
    inside = checkpoint.parent.name == "checkpoints" and checkpoint.exists() and (run / "config.yaml").is_file()
    return run if inside else None
