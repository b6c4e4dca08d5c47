"""Time and size of the report of many runs.

    python benchmarks/report_of_runs.py [RUN_DIR]

Copies of a run, by default of one with the records that a PINN of the shipped configurations leaves, become one page.
CPU seconds of the process, one thread, without the time to import matplotlib.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from lightning_regimes.dashboard import write_report
from lightning_regimes.recording import Journal, Record
from lightning_regimes.recording.journal import RECORDS_DIRECTORY

COUNTS = (1, 4, 5, 20, 100)


def make_run(directory: Path) -> Path:
    """Write a dozen verdicts, spectra at four steps and a field of 100 by 100 points."""
    journal = Journal(directory / RECORDS_DIRECTORY)
    rng = np.random.default_rng(0)
    steps = np.arange(1200)
    losses = 0.5 * 10.0 ** (-steps / 400) * np.exp(0.1 * rng.normal(size=steps.size))
    context = {
        "thresholds": {"fit": 0.025, "error": 0.05},
        "reasons": ["the loss is low", "the error is low"],
        "guidance": "Nothing has to change.",
    }
    for step in range(100, 1201, 100):
        scalars = {
            "regime/normalized_loss": losses[step - 1] / 0.5,
            "regime/reference_loss": 0.5,
            "regime/test_error": 30 / step,
            "regime/margin": 0.4,
            "regime/agreement": 1.0,
            "regime/seconds": 0.01,
            "regime/overhead": 0.01,
        }
        arrays = {"regime/loss_history_steps": steps[:step], "regime/loss_history": losses[:step]}
        text = {"regime/label": "WELL_TRAINED"}
        journal.append(Record("regime", step, step, 0, scalars=scalars, arrays=arrays, text=text, context=context))
    for step in (0, 400, 800, 1200):
        scalars = {f"hessian/lambda_{i}": (100.0 + step) / i for i in range(1, 6)}
        scalars |= {"hessian/lambda_min": -1.0, "hessian/trace": 200.0, "hessian/sharpness_ratio": 0.9}
        scalars |= {"hessian/seconds": 0.5, "hessian/overhead": 0.05, "hessian/num_matvecs": 50.0}
        journal.append(Record("hessian", step, step, 0, scalars=scalars))
    axis = np.linspace(0, 1, 100)
    fields = {"field/axis_0": axis, "field/axis_1": axis, "field/prediction": np.outer(axis, axis)}
    fields["field/reference"] = np.outer(axis, axis**1.1)
    journal.append(Record("field", 1200, 1200, 0, scalars={"field/rel_l2": 0.03}, arrays=fields))
    return directory


def main() -> None:
    """Print a row a number of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_directory", nargs="?", type=Path)
    options = parser.parse_args()
    table = Table("runs", "seconds", "megabytes")
    with tempfile.TemporaryDirectory() as folder:
        first = options.run_directory or make_run(Path(folder) / "example" / "run")
        write_report([first], output=Path(folder) / "report.html")
        for count in COUNTS:
            runs = [Path(folder) / "experiment" / f"run{index:03d}" for index in range(count)]
            for run in runs:
                shutil.copytree(first / RECORDS_DIRECTORY, run / RECORDS_DIRECTORY, dirs_exist_ok=True)
            start = time.process_time()
            path = write_report(runs, output=Path(folder) / "report.html")
            seconds = time.process_time() - start
            table.add_row(str(count), f"{seconds:.2f}", f"{path.stat().st_size / 1e6:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
