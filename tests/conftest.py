import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_regimes.dashboard import WandbRun, read_wandb_file


@pytest.fixture(scope="session")
def read_finished_run() -> Callable[[Path], WandbRun]:
    """Reads an offline run whose last block the W&B service may still be writing."""

    def read(file: Path) -> WandbRun:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*read what came before")
            for _ in range(2000):
                if (run := read_wandb_file(file)).finished:
                    break
        return run

    return read


@pytest.fixture
def finished_run(read_finished_run: Callable[[Path], WandbRun]) -> Callable[[Path], WandbRun]:
    """The same for a single test."""
    return read_finished_run
