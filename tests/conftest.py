import os
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


def short_options(name: str) -> list[str]:
    """Options that end a training after a few steps, at the end of which all diagnostics have measured."""
    options = ["--trainer.max_epochs=2", "--trainer.max_steps=-1", "--trainer.check_val_every_n_epoch=1"]
    if name.startswith("pinn"):
        options += [
            "--data.steps_per_epoch=3",
            "--data.num_interior=50",
            "--model.network=lightning_regimes.networks.MLP",
        ]
        options += ["--model.network.hidden_sizes=[8]"]
    if name.startswith("neural_ode"):
        options += ["--data.steps_per_epoch=3", "--data.horizon=1", "--data.rollout_horizon=1"]
    if "darcy" in name or "poisson" in name:
        options += ["--data.num_train=8", "--data.num_val=4", "--data.num_test=4", "--data.cache_dir=fields"]
    if "navier_stokes" in name:
        options += ["--data.num_train=2", "--data.num_val=1", "--data.num_test=1", "--data.cache_dir=fields"]
        options += ["--data.num_frames=3", "--data.num_skipped=0", "--data.solver_resolution=32"]
    if name.startswith("llama"):
        options += ["--data.max_bytes=100000", "--data.steps_per_epoch=3", "--data.cache_dir=tokens"]
        options += ["--data.sequence_length=16", "--model.configuration.hidden_size=16"]
    if name.startswith("autospec"):
        options += ["--data.steps_per_epoch=3", "--data.batch_size=4", "--data.size=64", "--data.num_validation=4"]
        options += ["--data.validation=[bcsstk01]"]
    if "cora" in name:
        options += [f"--data.source.folder={os.environ.get('REGIMES_TEST_DATA', '/nonexistent')}/graphs"]
    return ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", *options]


@pytest.fixture(scope="session")
def short() -> Callable[[str], list[str]]:
    """The options that make a shipped configuration a training of moments."""
    return short_options
