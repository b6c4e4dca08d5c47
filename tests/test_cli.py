import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning  # noqa: F401  its console handler must not hold a stream that one test captures
import pytest
import torch
import wandb
import yaml
from lightning.pytorch.callbacks import RichProgressBar

from lightning_regimes.cli import main
from lightning_regimes.command.training import TrainingCommand
from lightning_regimes.dashboard import WandbRun
from lightning_regimes.recording import read_records

USER_CODE = """
import torch
from lightning.pytorch import Callback
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel
from lightning_regimes.recording import Journal, Record, emit, logged_step, records_directory


class Small(BoringModel):
    def __init__(self, width: int = 3, stop_at: int = -1, how: str = "error"):
        super().__init__()
        self.save_hyperparameters()
        self.width = width

    def training_step(self, batch, batch_idx):
        if self.trainer.global_step == self.hparams.stop_at:
            raise KeyboardInterrupt if self.hparams.how == "interrupt" else FloatingPointError("no longer a number")
        loss = self.step(batch)
        self.log("loss", loss)
        return loss


class Recording(Callback):
    def __init__(self, every: int = 1):
        self.every = every

    def on_train_start(self, trainer, module):
        self.journal = Journal(records_directory(trainer))
        self.journal.resume(trainer.global_step)

    def on_train_batch_end(self, trainer, module, *_):
        label = {"regime/label": "WELL_TRAINED"}
        step = trainer.global_step
        scalars = {"regime/normalized_loss": 0.01, "regime/test_error": 0.02}
        record = Record("regime", logged_step(trainer), step, trainer.current_epoch, scalars=scalars, text=label)
        self.journal.append(record)
        emit(trainer, module, record)
"""

CONFIG = """
model:
  class_path: user_code.Small
data:
  class_path: user_code.BoringDataModule
trainer:
  accelerator: cpu
  max_epochs: 2
  limit_train_batches: 3
  limit_val_batches: 1
  num_sanity_val_steps: 0
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  logger: {class_path: CSVLogger, init_args: {save_dir: .}}
  callbacks:
  - class_path: user_code.Recording
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "user_code.py").write_text(USER_CODE)
    (tmp_path / "small.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("user_code", None)
    if wandb.run is not None:
        wandb.finish()


def runs(experiment: str = "small") -> list[Path]:
    return sorted(Path("runs", experiment).iterdir())


def only_run(experiment: str = "small") -> Path:
    (run,) = runs(experiment)
    return run


def test_fit_leaves_everything_in_its_run_directory(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", "small.yaml"]) == 0
    run = only_run()
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{4}", run.name)
    assert len(read_records(run)) == 6
    assert (run / "report.html").read_text().startswith("<!doctype html>")
    assert (run / "csv" / "version_0" / "metrics.csv").is_file()
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 6
    assert {path.name for path in Path().iterdir()} - {"__pycache__"} == {"runs", "small.yaml", "user_code.py"}
    shown = capsys.readouterr().out
    for part in ("WELL_TRAINED", "error   0.02", f"{run}/report.html", f"{run}/regimes/records.jsonl", "last.ckpt"):
        assert part in shown


def test_two_runs_never_share_a_directory() -> None:
    assert main(["fit", "-c", "small.yaml"]) == 0
    assert main(["fit", "-c", "small.yaml"]) == 0
    assert len(runs()) == 2
    assert [len(read_records(run)) for run in runs()] == [6, 6]


def test_saved_configuration_runs_again() -> None:
    assert main(["fit", "-c", "small.yaml", "--model.width=5"]) == 0
    run = only_run()
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["model"]["init_args"]["width"] == 5
    assert saved["trainer"]["logger"]["init_args"]["save_dir"] == "."
    assert saved["seed_everything"] == 0
    assert main(["fit", "-c", str(run / "config.yaml")]) == 0
    assert len(list(Path("runs", "Small").iterdir())) == 1, "named after the model, as config.yaml says nothing"


def test_hyperparameters_reach_the_logger() -> None:
    assert main(["fit", "-c", "small.yaml"]) == 0
    logged = yaml.safe_load((only_run() / "csv" / "version_0" / "hparams.yaml").read_text())
    assert logged["trainer"]["max_epochs"] == 2
    assert logged["model"]["class_path"] == "user_code.Small"
    assert "precision" not in logged["trainer"], "nulls are left out"


def test_default_loggers_are_csv_and_offline_wandb(finished_run: Callable[[Path], WandbRun]) -> None:
    environment = dict(os.environ)
    assert main(["fit", "-c", "small.yaml", "--trainer.logger=null"]) == 0
    assert dict(os.environ) == environment
    run = only_run()
    assert (run / "csv" / "version_0" / "metrics.csv").is_file()
    (file,) = run.glob("wandb/offline-run-*/*.wandb")
    logged = finished_run(file)
    assert [row["regime/label"] for row in logged.history if "regime/label" in row] == ["WELL_TRAINED"] * 6
    assert logged.config["trainer"]["max_epochs"] == 2
    assert logged.config["model"]["class_path"] == "user_code.Small"


def test_overlay_appends_callbacks() -> None:
    Path("overlay.yaml").write_text(
        "trainer:\n  callbacks+:\n  - class_path: EarlyStopping\n    init_args: {monitor: regime/test_error}\n"
    )
    assert main(["fit", "-c", "small.yaml", "-c", "overlay.yaml", "--trainer.default_root_dir=elsewhere"]) == 0
    (run,) = Path("elsewhere", "small").iterdir()
    saved = yaml.safe_load((run / "config.yaml").read_text())
    names = [callback["class_path"].rpartition(".")[2] for callback in saved["trainer"]["callbacks"]]
    assert names == ["Recording", "EarlyStopping"]


def test_checkpoint_alone_continues_its_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", "small.yaml"]) == 0
    run = only_run()
    last = str(run / "checkpoints" / "last.ckpt")
    assert main(["fit", "--ckpt_path", last, "--trainer.max_epochs=3"]) == 0
    assert only_run() == run
    assert [record.global_step for record in read_records(run)] == list(range(1, 10))
    assert (run / "csv" / "version_0" / "metrics.csv").is_file(), "the first session's log is kept"
    assert torch.load(last, weights_only=True)["global_step"] == 9


def test_checkpoint_is_tested_in_its_run() -> None:
    assert main(["fit", "-c", "small.yaml"]) == 0
    run = only_run()
    before = (run / "config.yaml").read_text()
    assert main(["test", "-c", "small.yaml", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"]) == 0
    assert only_run() == run
    assert (run / "config.yaml").read_text() == before
    assert (run / "test.yaml").is_file()


@pytest.mark.parametrize(("how", "status"), [("interrupt", 130), ("error", 1)])
def test_unfinished_run_can_be_continued(how: str, status: int, capsys: pytest.CaptureFixture[str]) -> None:
    handler = signal.getsignal(signal.SIGINT)
    assert main(["fit", "-c", "small.yaml", "--model.stop_at=4", f"--model.how={how}"]) == status
    assert signal.getsignal(signal.SIGINT) is handler
    run = only_run()
    assert [record.global_step for record in read_records(run)] == [1, 2, 3, 4]
    told = capsys.readouterr().err
    command = re.search(r"Continue with: lightning-regimes (fit --ckpt_path \S+)", told)
    assert command
    if how == "error":
        assert "lightning-regimes: error: FloatingPointError: no longer a number" in told
        assert "Traceback" not in told
    assert main([*command[1].split(), "--model.stop_at=-1"]) == 0
    assert only_run() == run
    assert [record.global_step for record in read_records(run)] == [1, 2, 3, 4, 5, 6]


def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", "small.yaml", "--model.stop_at=1", "--debug"]) == 1
    assert "in training_step" in capsys.readouterr().err


def test_progress_shows_small_losses_and_no_end_where_none_is_set() -> None:
    options = ["fit", "-c", "small.yaml", "--trainer.enable_progress_bar=true"]
    trainer = TrainingCommand([*options, "--trainer.max_epochs=-1", "--trainer.max_steps=3"]).trainer
    bar = trainer.progress_bar_callback
    assert isinstance(bar, RichProgressBar)
    bar._trainer = trainer
    assert f"{4.52e-5:{bar.theme.metrics_format}}" == "4.52e-05"
    assert bar._get_train_description(29).strip() == "Epoch 29"
    trainer.fit_loop.max_epochs = 30
    assert bar._get_train_description(29).strip() == "Epoch 29/29"
    chosen = TrainingCommand(
        [*options, "--trainer.callbacks+=RichProgressBar", "--trainer.callbacks.leave=true"]
    ).trainer
    assert type(chosen.progress_bar_callback) is RichProgressBar
    assert chosen.progress_bar_callback._leave


def test_users_own_checkpoint_callback_lives_beside_ours() -> None:
    Path("own.yaml").write_text(
        "trainer:\n  callbacks+:\n  - class_path: ModelCheckpoint\n"
        "    init_args: {monitor: regime/test_error, filename: best}\n"
    )
    assert main(["fit", "-c", "small.yaml", "-c", "own.yaml"]) == 0
    assert {"best.ckpt", "last.ckpt"} <= {path.name for path in (only_run() / "checkpoints").iterdir()}


@pytest.mark.parametrize(
    "options",
    [["--trainer.fast_dev_run=true"], ["--trainer.enable_checkpointing=false"], ["--trainer.logger=false"]],
)
def test_trainer_options_that_switch_things_off(options: list[str]) -> None:
    assert main(["fit", "-c", "small.yaml", *options]) == 0
    assert read_records(only_run())


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["fit", "-c", "missing.yaml"], r"the configuration file 'missing\.yaml' does not exist\."),
        (["fit"], "'model' is missing; give it in the configuration \\(-c FILE\\) or as --model\\."),
        (["fit", "-c", "small.yaml", "--model.widht=3"], "Small has no option 'widht'; did you mean 'width'."),
        (
            ["fit", "-c", "small.yaml", "--trainer.max_epohcs=3"],
            "'--trainer.max_epohcs'; did you mean 'trainer.max_epochs'",
        ),
        (
            ["fit", "-c", "small.yaml", "--model=Collocaton"],
            "there is no class 'Collocaton'; did you mean 'Collocation'",
        ),
        (["fit", "-c", "small.yaml", "--model=Nothing"], "no class 'Nothing'; give its import path"),
        (
            ["fit", "-c", "small.yaml", "--model=PINN", "--model.problem=Convection", "--model.constraints=hrd"],
            "constraints: expected one of 'soft', 'hard', 'augmented_lagrangian', got 'hrd'",
        ),
        (
            [
                "fit",
                "-c",
                "small.yaml",
                "--trainer.callbacks=RegimeDetection",
                "--trainer.callbacks.every_n_epochs=three",
            ],
            "every_n_epochs: expected int or null, got 'three'",
        ),
        (["fit", "--ckpt_path=nowhere/last.ckpt"], "the checkpoint 'nowhere/last.ckpt' does not exist"),
        (["fit", "-c", "small.yaml", "--trainer.max_epochs=x"], "trainer.max_epochs: expected int or null, got 'x'"),
        (["fit", "-c", "small.yaml", "--ckpt_path=no.ckpt"], "the checkpoint 'no.ckpt' does not exist"),
        (["fit", "--model=PINN", "--model.problem=Convection"], "'data' is missing; give a datamodule"),
        (["fit", "-c", "small.yaml", "--data=HandwrittenDigits", "--data.num_train=3"], "`num_train` lies between 10"),
        (
            ["fit", "-c", "small.yaml", "--trainer.callbacks+=HessianSpectrum", "--trainer.callbacks.k=0"],
            "`k` is at least 1",
        ),
        (["fitt"], "invalid choice: 'fitt'"),
        (["report", "nowhere"], "'nowhere' holds no records"),
        (["fit", "-c=missing.yaml"], "the configuration file 'missing.yaml' does not exist"),
        (["report"], "arguments are required: RUN_DIR"),
    ],
)
def test_bad_input_is_told_in_one_sentence(args: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 1
    told = capsys.readouterr()
    assert re.search(f"^lightning-regimes: error: .*{sentence}", told.err), told.err
    assert len(told.err.strip().splitlines()) == 1
    assert not Path("runs").exists()


def test_misspelt_option_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load(CONFIG)
    config["trainer"]["callbacks"] = [{"class_path": "EarlyStopping", "init_args": {"monitor": "x", "patince": 3}}]
    Path("small.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "-c", "small.yaml"]) == 1
    told = capsys.readouterr().err
    assert "trainer.callbacks: EarlyStopping has no option 'patince'; did you mean 'patience'." in told


def test_print_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", "small.yaml", "--print_config"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["width"] == 3
    assert not Path("runs").exists()


def test_report_of_several_runs_takes_the_place_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", "small.yaml"]) == 0
    assert main(["fit", "-c", "small.yaml"]) == 0
    found = runs()
    own = [(run / "report.html").read_bytes() for run in found]
    # The second time, a pattern such as runs/small/* finds the report of the first.
    for given, report in (
        (lambda: found, "runs/small/report.html"),
        (runs, "runs/small/report.html"),
        (lambda: ["runs"], "runs/report.html"),
    ):
        assert main(["report", *map(str, given())]) == 0
        told = capsys.readouterr()
        assert told.out.splitlines()[-1] == report
        assert told.err == ""
        page = Path(report).read_text()
        assert all(run.name in page for run in found)
    assert [(run / "report.html").read_bytes() for run in found] == own


def test_report_tells_in_a_line_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "-c", "small.yaml"]) == 0
    Path("empty").mkdir()
    assert main(["report", str(only_run()), "empty"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[-1] == f"{only_run()}/report.html"
    assert re.fullmatch(r"lightning-regimes: warning: Left out of the report: 'empty' holds no records .*\n", told.err)


def test_without_arguments_it_says_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "examples:" in capsys.readouterr().out


PINN_CONFIG: dict[str, Any] = {
    "model": {
        "class_path": "PINN",
        "init_args": {
            "problem": {"class_path": "Convection", "init_args": {"beta": 2.0}},
            "optimizer": {"class_path": "LBFGSFactory"},
        },
    },
    "data": {"class_path": "Collocation", "init_args": {"num_interior": 100, "steps_per_epoch": 2}},
    "trainer": {
        "accelerator": "cpu",
        "max_epochs": 2,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "RegimeDetection"}],
    },
}


def test_own_classes_need_no_import_path() -> None:
    Path("pinn.json").write_text(json.dumps(PINN_CONFIG))
    Path("pinn.yaml").write_text(yaml.safe_dump(PINN_CONFIG))
    assert main(["fit", "-c", "pinn.yaml"]) == 0
    run = only_run("pinn")
    assert read_records(run)[-1].scalars["regime/reference_loss"] > 0
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["model"]["class_path"] == "lightning_regimes.modules.PINN"
    assert main(["fit", f"--ckpt_path={run}/checkpoints/last.ckpt", "--trainer.max_epochs=3"]) == 0
    assert only_run("pinn") == run


def run_in_new_process(code: str) -> str:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_only_what_is_named_is_imported() -> None:
    code = (
        "import sys\nfrom lightning_regimes.command.short_names import import_named_classes\n"
        "import_named_classes(['fit', '-c', 'small.yaml', '--data=Collocation'])\n"
        "print([name for name in ('datamodules.collocation', 'modules.pinn', 'callbacks.regime_detection')"
        " if f'lightning_regimes.{name}' in sys.modules])"
    )
    assert run_in_new_process(code).strip() == "['datamodules.collocation']"


def test_help_and_report_do_without_lightning() -> None:
    code = (
        "import sys\nfrom lightning_regimes.cli import main\n"
        "assert main(['--help']) == 0 and main(['--version']) == 0 and main(['report', 'nowhere']) == 1\n"
        "print({'torch', 'lightning', 'wandb'} & set(sys.modules) or 'light')"
    )
    assert run_in_new_process(code).splitlines()[-1] == "light"
