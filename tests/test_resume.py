"""A run that is killed and resumed is the run that was not, and its records have no gap and no double."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_regimes.recording import read_records

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
KILLER = """
import os, signal
import lightning as L

class Killer(L.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer, *args) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
"""


def run(folder, *arguments):
    command = [sys.executable, "-m", "lightning_regimes.cli", "fit", *map(str, arguments)]
    path = os.pathsep.join([str(ROOT), str(folder)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def demo(folder, name, *arguments):
    settings = ["--trainer.max_steps=250", "--trainer.enable_progress_bar=false", "--model.network=MLP"]
    small = ["--model.network.hidden_sizes=[16,16]", "--data.steps_per_epoch=40", "--data.num_interior=100"]
    config = ROOT / "configs" / "pinn_convection.yaml"
    return run(folder, "-c", config, *settings, *small, f"--trainer.default_root_dir={name}", *arguments)


def run_directory(folder, name):
    (directory,) = (folder / name / "pinn_convection").iterdir()
    return directory


def weights(directory):
    state = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 250
    return state["state_dict"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "killer.py").write_text(KILLER)
    whole = demo(folder, "whole")
    assert whole.returncode == 0, whole.stderr
    killed = demo(folder, "killed", "--trainer.callbacks+=killer.Killer", "--trainer.callbacks.step=215")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = (run_directory(folder, "killed") / "regimes" / "records.jsonl").read_text()
    checkpoint = run_directory(folder, "killed") / "checkpoints" / "last.ckpt"
    # The killed run's own configuration still holds the callback that killed it.
    resumed = demo(folder, "killed", f"--ckpt_path={checkpoint}")
    assert resumed.returncode == 0, resumed.stderr
    return folder, before


def test_weights_are_bitwise_those_of_the_uninterrupted_run(runs):
    folder, _ = runs
    whole, resumed = weights(run_directory(folder, "whole")), weights(run_directory(folder, "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_records_have_no_gap_and_no_double_and_nothing_is_lost(runs):
    folder, before = runs
    directory = run_directory(folder, "killed")
    assert (directory / "regimes" / "records.jsonl").read_text().startswith(before)

    def measured(name):
        return [(r.diagnostic, r.global_step) for r in read_records(run_directory(folder, name))]

    assert sorted(measured("killed")) == sorted(measured("whole"))
    assert ("regime", 200) in measured("whole")


def test_measured_values_are_those_of_the_uninterrupted_run(runs):
    folder, _ = runs
    values = {}
    for name in ("whole", "killed"):
        for record in read_records(run_directory(folder, name)):
            scalars = {k: v for k, v in record.scalars.items() if not k.endswith(("seconds", "overhead"))}
            values.setdefault((record.diagnostic, record.global_step), []).append(scalars)
    for first, second in values.values():
        assert first == second
