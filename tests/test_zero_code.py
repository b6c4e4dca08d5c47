"""A script that does not import this package gets its callbacks through an environment variable."""

import os
import subprocess
import sys

import pytest

from lightning_regimes.recording import read_records

SCRIPT = """
import sys
import {namespace} as pl
from {demos}.demos.boring_classes import BoringModel, ManualOptimBoringModel

model = ManualOptimBoringModel() if "manual" in sys.argv else BoringModel()
trainer = pl.Trainer(max_steps=8, limit_val_batches=0, logger=False, enable_progress_bar=False, enable_checkpointing=False)
trainer.fit(model)
assert trainer.global_step == 8
assert "lightning_regimes.modules.pinn" not in sys.modules
"""


def run(folder, namespace, *arguments):
    demos = "lightning.pytorch" if namespace == "lightning" else namespace
    (folder / "script.py").write_text(SCRIPT.format(namespace=namespace, demos=demos))
    options = "overlay.yaml"
    (folder / options).write_text(
        "callbacks:\n- class_path: HessianSpectrum\n  init_args: {k: 2, every_n_steps: 4}\n- class_path: RegimeDetection\n"
    )
    environment = {**os.environ, "LIGHTNING_REGIMES": options, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "script.py", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("namespace", ["lightning", "pytorch_lightning"])
def test_a_script_that_does_not_import_us_is_measured(tmp_path, namespace):
    result = run(tmp_path, namespace)
    assert result.returncode == 0, result.stderr
    (path,) = tmp_path.rglob("records.jsonl")
    records = read_records(path.parent.parent)
    assert [(r.diagnostic, r.global_step) for r in records] == [("hessian", 4), ("hessian", 8), ("regime", 8)]


def test_what_cannot_be_measured_does_not_stop_the_script(tmp_path):
    result = run(tmp_path, "lightning", "manual")
    assert result.returncode == 0, result.stderr
    assert "HessianSpectrum is off" in result.stderr.replace("_", "")
    assert not list(tmp_path.rglob("records.jsonl"))
