"""Every shipped configuration runs, and what the demo records reaches every logger."""

import csv
import os
import re
import sys
from pathlib import Path

import pytest
import wandb
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_regimes.cli import main
from lightning_regimes.dashboard.workspace import WORKSPACE
from lightning_regimes.recording import describe, read_records

CONFIGS = Path(__file__).parents[1] / "configs"
EXPERIMENTS = sorted(path.name for path in CONFIGS.glob("*.yaml"))
OVERLAYS = sorted(path.name for path in (CONFIGS / "diagnostics").glob("*.yaml"))
OPTIMIZERS = sorted(path.name for path in (CONFIGS / "optimizers").glob("*.yaml"))
GRAPHS = Path(os.environ.get("REGIMES_TEST_DATA", "/nonexistent"), "graphs")
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    if wandb.run is not None:
        wandb.finish()


def only_run(name):
    (run,) = Path("runs", name).iterdir()
    return run


def contains(whole, part):
    """Whether a configuration has all that another one says; the names of its classes may be longer."""
    if isinstance(part, dict):
        return all(key in whole and contains(whole[key], value) for key, value in part.items())
    return whole.rpartition(".")[2] == part if isinstance(part, str) else whole == part


KEYS_IN_WANDB: dict[str, set[str]] = {}
"""What each experiment that has run has logged to W&B."""


@pytest.fixture
def run_experiment(short):
    """Runs an experiment shortly, with whatever it needs, and returns its run directory."""

    def run(name, *options):
        text = (CONFIGS / name).read_text()
        for needed in re.findall(r"base_checkpoint: runs/(\w+)", text):
            assert main(["fit", "-c", str(CONFIGS / f"{needed}.yaml"), *short(needed)]) == 0
        assert main(["fit", "-c", str(CONFIGS / name), *options, *short(name)]) == 0
        return only_run(name.removesuffix(".yaml"))

    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_and_says_what_to_see(name, run_experiment, finished_run):
    if "cora" in name and not GRAPHS.is_dir():
        pytest.skip("REGIMES_TEST_DATA names no folder with graphs")
    text = (CONFIGS / name).read_text()
    assert text.startswith("#")
    assert "What to see:" in text
    run = run_experiment(name)
    KEYS_IN_WANDB[name] = keys_in_wandb(run, finished_run)
    diagnostics = {record.diagnostic for record in read_records(run)}
    assert "regime" in diagnostics
    assert (run / "report.html").is_file()


def keys_in_wandb(run, finished_run):
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    return {key for row in finished_run(file).history for key in row}


@pytest.mark.slow
def test_every_panel_of_the_workspace_shows_what_a_shipped_configuration_records(run_experiment, finished_run):
    keys = set()
    for name in (
        "pinn_convection.yaml",
        "suspicious_alignment.yaml",
        "gnn_kces.yaml",
        "irno_navier_stokes.yaml",
        "layer_balancing.yaml",
    ):
        if name not in KEYS_IN_WANDB:
            KEYS_IN_WANDB[name] = keys_in_wandb(run_experiment(name), finished_run)
        keys |= KEYS_IN_WANDB[name]
    overlays = [f"-c={CONFIGS / 'diagnostics' / name}.yaml" for name in ("heavy_tail", "spectrum_density")]
    keys |= keys_in_wandb(run_experiment("digits_landscape.yaml", *overlays), finished_run)
    for section in WORKSPACE:
        for panel in section.panels:
            assert panel.lacks(keys) == (), panel.title


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_trains_the_experiment_that_its_head_names(name, short):
    text = (CONFIGS / "optimizers" / name).read_text()
    assert "What to see:" in text
    (base,) = re.findall(rf"fit -c configs/(\w+)\.yaml -c configs/optimizers/{re.escape(name)}\n", text)
    overlay = ["-c", str(CONFIGS / f"{base}.yaml"), "-c", str(CONFIGS / "optimizers" / name)]
    options = short(base) if base.startswith("pinn") else [*QUIET, "--trainer.max_epochs=1"]
    assert main(["fit", *overlay, *options, "--trainer.callbacks=RegimeDetection"]) == 0
    factory = yaml.safe_load((only_run(base) / "config.yaml").read_text())["model"]["init_args"]["optimizer"]
    expected = yaml.safe_load(text)["model"]["init_args"]["optimizer"]
    assert factory["class_path"].endswith(expected["class_path"])
    assert contains(factory["init_args"], expected["init_args"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_overlay_adds_to_a_foreign_configuration(name, monkeypatch):
    from lightning.pytorch.cli import LightningCLI
    from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

    text = (CONFIGS / "diagnostics" / name).read_text()
    assert "What to see:" in text
    added = [entry["class_path"] for entry in yaml.safe_load(text)["trainer"]["callbacks+"]]
    own = {
        "trainer": {"callbacks": [{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}], "max_steps": 3}
    }
    Path("own.yaml").write_text(yaml.safe_dump(own))
    monkeypatch.setattr(sys, "argv", ["script"])
    cli = LightningCLI(
        BoringModel,
        BoringDataModule,
        run=False,
        args=["-c", "own.yaml", "-c", str(CONFIGS / "diagnostics" / name), *QUIET],
    )
    names = [f"{type(c).__module__}.{type(c).__name__}" for c in cli.trainer.callbacks]
    assert any(name.endswith("LearningRateMonitor") for name in names)
    for class_path in added:
        assert any(name.rpartition(".")[2] == class_path.rpartition(".")[2] for name in names)


def test_every_key_that_the_demo_records_is_in_every_logger(short, finished_run):
    loggers = [
        {"class_path": "WandbLogger", "init_args": {"offline": True}},
        {"class_path": "CSVLogger", "init_args": {"save_dir": "."}},
        {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "."}},
    ]
    Path("loggers.yaml").write_text(yaml.safe_dump({"trainer": {"logger": loggers}}))
    assert main(["fit", "-c", str(CONFIGS / "pinn_convection.yaml"), "-c", "loggers.yaml", *short("pinn")]) == 0
    run = only_run("pinn_convection")
    records = read_records(run)
    scalars = {key for record in records for key in record.scalars}
    text = {key for record in records for key in record.text}
    assert {"hessian/lambda_1", "hessian/trace", "regime/normalized_loss", "field/rel_l2"} <= scalars
    assert text == {"regime/label"}
    for key in scalars | text:
        assert describe(key).meaning

    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    rows = finished_run(file).history
    in_wandb = {key for row in rows for key in row}
    tables = {key for record in records for key in record.tables}
    assert tables == {"hessian/eigenpairs", "regime/evidence"}
    assert scalars | text | tables | {"hessian/spectrum", "hessian/eigenvalues", "field/maps"} <= in_wandb
    (file,) = run.glob("csv/version_0/metrics.csv")
    with file.open() as handle:
        table = list(csv.DictReader(handle))
    assert scalars <= table[0].keys()
    (folder,) = run.glob("tensorboard/version_0")
    events = EventAccumulator(str(folder)).Reload()
    assert scalars <= set(events.Tags()["scalars"])
    assert "field/maps" in events.Tags()["images"]
    assert {f"{key}/text_summary" for key in text | tables} <= set(events.Tags()["tensors"])
    assert "hessian/eigenvalues" in events.Tags()["histograms"]

    # The same number at the same step everywhere.
    spectra = [record for record in records if record.diagnostic == "hessian"]
    for record in spectra:
        value, step = record.scalars["hessian/lambda_1"], record.step
        assert pytest.approx(value, rel=1e-6) in [
            row["hessian/lambda_1"]
            for row in rows
            if row.get("trainer/global_step") == step and "hessian/lambda_1" in row
        ]
        assert pytest.approx(value, rel=1e-6) in [
            float(row["hessian/lambda_1"]) for row in table if int(row["step"]) == step and row["hessian/lambda_1"]
        ]
        assert pytest.approx(value, rel=1e-6) in [e.value for e in events.Scalars("hessian/lambda_1") if e.step == step]
