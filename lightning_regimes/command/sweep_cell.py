"""One cell of a sweep: a training by the command's own path, and what it recorded as one row."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shutil
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_regimes.sweep import Trial


@dataclass(frozen=True)
class RunCell:
    """Runs a trial as ``lightning-regimes fit`` would, in ``<directory>/cells/<key>``.

    Args:
        directory: of the sweep.
    """

    directory: Path

    def __call__(self, trial: Trial) -> dict[str, Any]:
        """Train, and return the row: the last value of everything recorded, the versions and the time.

        Raises:
            RuntimeError: the training recorded nothing.
        """
        from lightning_regimes.command.training import TrainingCommand
        from lightning_regimes.dashboard.run_view import RunView

        class Command(TrainingCommand):
            def after_fit(self) -> None:
                """Say nothing: a sweep has one report for all its cells."""

        folder = self.directory / "cells" / trial.key
        # What an attempt left that was cut off has no row, and a second journal would only confuse.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start, start_of_computing = time.perf_counter(), time.process_time()
        with console_to(folder / "output.txt"):
            command = Command([*trial.command, f"--trainer.default_root_dir={folder}"])
            command.run()
        try:
            run = RunView(command.run_directory)
        except (FileNotFoundError, ValueError):
            raise RuntimeError(
                "the training recorded nothing; a sweep needs RegimeDetection among the callbacks of its cells."
            ) from None
        verdict = run.verdict
        return {
            "run": os.fspath(command.run_directory.relative_to(self.directory)),
            "values": {key: last.value for key, last in run.last.items()},
            "thresholds": (verdict.context.get("thresholds") or {}) if verdict else {},
            "versions": versions(),
            "seconds": time.perf_counter() - start,
            "processor_seconds": time.process_time() - start_of_computing,
        }


def versions() -> dict[str, str]:
    """Return the versions that a row names."""
    import lightning
    import torch

    from lightning_regimes import __version__

    return {
        "lightning_regimes": __version__,
        "torch": torch.__version__,
        "lightning": lightning.__version__,
        "python": platform.python_version(),
    }


@contextlib.contextmanager
def console_to(path: Path) -> Iterator[None]:
    """Write what a training says into a file: the console is that of the sweep."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning_utilities")]
    levels = [logger.level for logger in loggers]
    with path.open("w", encoding="utf-8") as file, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
        with contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
            try:
                for logger in loggers:
                    # Their handlers hold the console of the moment when Lightning was imported.
                    logger.setLevel(logging.ERROR)
                yield
            finally:
                for logger, level in zip(loggers, levels, strict=True):
                    logger.setLevel(level)
