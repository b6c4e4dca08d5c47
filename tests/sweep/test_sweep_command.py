"""The command, on trainings that take no time."""

import csv
import json
import sys
from pathlib import Path

import pytest
import wandb
import yaml

from lightning_regimes.cli import main
from lightning_regimes.command.sweep_cell import RunCell
from lightning_regimes.dashboard import write_report
from lightning_regimes.recording import read_records
from lightning_regimes.sweep import LEDGER_FILE, Ledger, RayEngine, SweepSpecification
from lightning_regimes.sweep.engine import Result
from lightning_regimes.sweep.exclusive_lock import ExclusiveLock
from lightning_regimes.sweep.execution import run_sweep
from lightning_regimes.sweep.recorded_sweep import RecordedSweep, describe_sweep

CONFIGS = Path(__file__).parents[2] / "configs"
X, Y = "model.problem.beta", "data.num_interior"


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    if wandb.run is not None:
        wandb.finish()


class Here:
    """Runs cells in this process, as a worker would."""

    def __init__(self, order=1):
        self.order = order

    def map(self, function, trials):
        for trial in list(trials)[:: self.order]:
            try:
                yield Result(trial, function(trial))
            except Exception as error:
                yield Result(trial, None, f"{type(error).__name__}: {error}")


@pytest.fixture
def sweep_file(tmp_path):
    cells = CONFIGS / "sweeps" / "cells"
    options = ["--trainer.max_steps=2", "--model.network.hidden_sizes=[4]", "--data.steps_per_epoch=2"]
    files = [CONFIGS / "pinn_convection.yaml", cells / "small_pinn.yaml", cells / "measured_at_end.yaml"]
    command = ["lightning-regimes", "fit", *(word for file in files for word in ("-c", str(file))), *options, "${args}"]
    content = {
        "command": command,
        "method": "grid",
        "parameters": {X: {"values": [1, -1]}, Y: {"values": [20]}, "seed_everything": {"values": [0, 1]}},
        "phase_diagram": {"x": X, "y": Y, "seed": "seed_everything"},
    }
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def numbers(rows):
    timed = ("seconds", "overhead")
    return [{k: v for k, v in row["values"].items() if k.rpartition("/")[2] not in timed} for row in rows]


def test_a_sweep_leaves_table_figure_report_records_and_a_wandb_run(sweep_file, monkeypatch, capsys, finished_run):
    monkeypatch.setattr("lightning_regimes.command.sweep.LocalEngine", lambda **options: Here())
    assert main(["sweep", "-c", str(sweep_file), "--directory", "out"]) == 0
    directory = Path("out")
    rows = list(Ledger(directory).rows().values())
    assert len(rows) == 4
    for row in rows:
        assert {"hessian/lambda_1", "hessian/trace", "regime/normalized_loss", "regime/test_error"} <= set(
            row["values"]
        )
        assert row["thresholds"] == {"fit": 0.025, "error": 0.05}
        assert set(row["versions"]) == {"lightning_regimes", "torch", "lightning", "python"}
        assert row["seed"] == row["parameters"]["seed_everything"]
        (record,) = [r for r in read_records(directory / row["run"]) if r.diagnostic == "regime"]
        assert record.scalars["regime/normalized_loss"] == row["values"]["regime/normalized_loss"]
    with (directory / "phase_diagram.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [(cell[X], cell[Y], cell["runs"]) for cell in cells] == [("-1", "20", "2"), ("1", "20", "2")]
    page = (directory / "report.html").read_text()
    assert "Phase diagram" in page
    assert "4 of 4 runs finished" in page
    assert "http" not in page
    assert page.count("<svg") == 1 + 6, "the regimes and six quantities, one picture each"
    assert page.count('class="scroll"') == page.count('class="scroll" tabindex="0"') == 2
    for row in rows:
        assert f"cells/{row['key']}" in page
        assert (directory / "cells" / row["key"]).is_dir()
    (record,) = read_records(directory)
    assert record.scalars["phase_diagram/num_runs"] == 4
    assert len(record.tables["phase_diagram/cells"].rows) == 2
    (file,) = directory.glob("wandb/offline-run-*/*.wandb")
    logged = {key for row in finished_run(file).history for key in row}
    assert {"phase_diagram/cells", "phase_diagram/maps", "phase_diagram/correlations"} <= logged
    assert "report.html" in capsys.readouterr().out

    # Again: nothing is left to do, and table, journal and W&B stay as they are.
    kept = [directory / LEDGER_FILE, directory / "regimes" / "records.jsonl"]
    before = [path.read_bytes() for path in kept]
    assert main(["sweep", "-c", str(sweep_file), "--directory", "out"]) == 0
    assert [path.read_bytes() for path in kept] == before
    assert len(list(directory.glob("wandb/offline-run-*"))) == 1
    assert main(["report", "out", "-o", "again.html"]) == 0
    assert "Phase diagram" in Path("again.html").read_text()


@pytest.mark.slow
def test_cells_are_bitwise_the_same_in_any_order(sweep_file):
    specification = SweepSpecification.read(sweep_file)
    trials = specification.trials()[:2]
    first = run_sweep(trials, "a", function=RunCell(Path("a").resolve()), engine=Here())
    second = run_sweep(trials, "b", function=RunCell(Path("b").resolve()), engine=Here(-1))
    assert numbers(first) == numbers(second)
    assert len({json.dumps(entry, sort_keys=True) for entry in numbers(first)}) == 2


def test_failed_cells_are_told_and_make_the_command_fail(sweep_file, monkeypatch, capsys):
    content = yaml.safe_load(sweep_file.read_text())
    content["parameters"] = {X: {"values": [1]}, Y: {"values": [20, 0]}}
    content["phase_diagram"]["seed"] = None
    sweep_file.write_text(yaml.safe_dump(content))
    monkeypatch.setattr("lightning_regimes.command.sweep.LocalEngine", lambda **options: Here())
    assert main(["sweep", "-c", str(sweep_file), "-d", "out", "--no-wandb"]) == 1
    sweep = RecordedSweep("out")
    assert (len(sweep.finished), len(sweep.failed)) == (1, 1)
    assert all("num_interior" in row["error"] for row in sweep.failed)
    assert capsys.readouterr().out.count("failed") >= 1
    page = write_report(["out"]).read_text()
    assert "1 of 2 runs finished, 1 failed" in page
    assert "Failed cells" in page


def test_a_report_of_an_unfinished_sweep_shows_what_there_is(sweep_file):
    specification = SweepSpecification.read(sweep_file)
    trials = specification.trials()
    describe_sweep(specification, trials, "out")
    assert "0 of 4 runs finished" in write_report(["out"]).read_text()
    Ledger("out").append(
        {
            "key": trials[0].key,
            "status": "finished",
            "parameters": dict(trials[0].parameters),
            "values": {"regime/normalized_loss": 0.01, "regime/test_error": 0.01, "regime/label": "WELL_TRAINED"},
        }
    )
    page = write_report(["out"]).read_text()
    assert "1 of 4 runs finished" in page
    assert "1 well-trained" in page


def test_a_sweep_of_another_process_keeps_its_description(sweep_file, capsys):
    with ExclusiveLock("out/lock"):
        assert main(["sweep", "-c", str(sweep_file), "-d", "out", "--no-wandb"]) == 1
    assert "is being run by process" in capsys.readouterr().err
    assert not Path("out", "sweep.json").exists()


def test_wandb_agents_are_an_exit(sweep_file, capsys):
    assert main(["sweep", "-c", str(sweep_file), "--engine", "wandb"]) == 0
    assert f"wandb sweep --project lightning-regimes {sweep_file}" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_ray_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ModuleNotFoundError, match=r"lightning-regimes\[cluster\]"):
        RayEngine()


def test_a_sweep_that_is_not_there_is_one_sentence(capsys):
    assert main(["sweep", "-c", "none.yaml"]) == 1
    assert capsys.readouterr().err == (
        "lightning-regimes: error: the sweep 'none.yaml' does not exist; give -c the YAML file of a sweep.\n"
    )
