import csv
import os
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import pytorch_lightning
import torch
import wandb
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from pytorch_lightning.demos.boring_classes import BoringModel as PytorchLightningBoringModel
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_regimes.dashboard import WandbRun
from lightning_regimes.recording import Record, emit, logged_step


@pytest.fixture(autouse=True)
def isolated_wandb() -> Iterator[None]:
    """WandbLogger switches the whole process to offline mode and reuses any run that is still open."""
    before = dict(os.environ)
    os.environ |= {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off"}
    yield
    wandb.finish()
    os.environ.clear()
    os.environ |= before


def draw() -> Figure:
    figure = Figure(figsize=(1, 1), dpi=50)
    figure.add_subplot().plot([0, 1])
    return figure


HOOKS = ("on_train_start", "on_train_batch_end", "on_validation_end", "on_train_epoch_end", "on_train_end")


class Emitting(lightning.Callback):
    """Emits at every hook that a diagnostic may use."""

    def __init__(self, hooks: tuple[str, ...] = HOOKS, *, rich: bool = True) -> None:
        self.emitted: list[tuple[str, Record]] = []
        for hook in hooks:
            setattr(self, hook, self._hook(hook, rich))

    def _hook(self, hook: str, rich: bool) -> Any:
        def run(trainer: Any, module: Any, *_: Any) -> None:
            content: dict[str, Any] = {}
            if rich:
                content["text"] = {"regime/label": f"label {trainer.global_step}"}
                content["arrays"] = {"hessian/eigenvalues": np.array([1.0, 2.0, 2.0, np.nan])}
                content["histograms"] = ("hessian/eigenvalues",)
                content["figures"] = {"hessian/spectrum": draw}
            record = Record(
                diagnostic="hessian",
                step=logged_step(trainer),
                global_step=trainer.global_step,
                epoch=trainer.current_epoch,
                scalars={"hessian/lambda_1": 10.0 + trainer.global_step},
                **content,
            )
            emit(trainer, module, record)
            self.emitted.append((hook, record))

        return run


class Logging(BoringModel):
    """Logs in every way a user does, closure of several evaluations included."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.step(batch)
        self.log("user/loss", loss, on_step=True, on_epoch=True)
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        self.log("user/batch", float(self.trainer.global_step), on_step=True, on_epoch=True)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("user/validation", self.step(batch))

    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters(), lr=0.01, max_iter=3)


def fit(tmp_path: Path, model: Any = None, namespace: Any = lightning, **options: Any) -> Any:
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "default_root_dir": tmp_path,
        "accelerator": "cpu",
        "max_epochs": 2,
        "limit_train_batches": 3,
        "limit_val_batches": 2,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = namespace.Trainer(**{**settings, **options})
    trainer.fit(model if model is not None else Logging())
    return trainer


def csv_rows(logger: Any) -> list[dict[str, str]]:
    with (Path(logger.log_dir) / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_csv_holds_every_scalar_under_its_step(tmp_path: Path) -> None:
    callback, logger = Emitting(), CSVLogger(tmp_path)
    fit(tmp_path, logger=logger, callbacks=[callback])
    rows = [row for row in csv_rows(logger) if row["hessian/lambda_1"]]
    assert [(int(row["step"]), float(row["hessian/lambda_1"])) for row in rows] == [
        (record.step, record.scalars["hessian/lambda_1"]) for _, record in callback.emitted
    ]


def test_steps_lie_under_those_of_the_module(tmp_path: Path) -> None:
    callback, logger = Emitting(), CSVLogger(tmp_path)
    fit(tmp_path, logger=logger, callbacks=[callback], max_epochs=1, accumulate_grad_batches=2, limit_train_batches=4)
    rows = csv_rows(logger)
    steps = {hook: [record.step for name, record in callback.emitted if name == hook] for hook in HOOKS}
    assert steps["on_train_batch_end"] == [0, 0, 1, 1]
    assert steps["on_train_epoch_end"] == [int(row["step"]) for row in rows if row["user/loss_epoch"]] == [1]
    assert steps["on_validation_end"] == [int(row["step"]) for row in rows if row["user/validation"]] == [1]
    assert steps["on_train_end"] == [1]


def test_points_come_at_once_even_if_the_module_logs_rarely(tmp_path: Path) -> None:
    callback, logger = Emitting(("on_train_batch_end",)), CSVLogger(tmp_path)
    fit(tmp_path, logger=logger, callbacks=[callback], log_every_n_steps=1000)
    assert [int(row["step"]) for row in csv_rows(logger) if row["hessian/lambda_1"]] == list(range(6))


def test_tensorboard_holds_scalars_text_histograms_and_pictures(tmp_path: Path) -> None:
    callback, logger = Emitting(("on_train_batch_end",)), TensorBoardLogger(tmp_path)
    fit(tmp_path, logger=logger, callbacks=[callback])
    events = EventAccumulator(logger.log_dir).Reload()
    assert [(e.step, e.value) for e in events.Scalars("hessian/lambda_1")] == [(s, 11.0 + s) for s in range(6)]
    labels = [e.tensor_proto.string_val[0].decode() for e in events.Tensors("regime/label/text_summary")]
    assert labels == [f"label {step + 1}" for step in range(6)]
    histogram = events.Histograms("hessian/eigenvalues")[0].histogram_value
    assert (histogram.min, histogram.max, histogram.num, histogram.sum) == (1.0, 2.0, 3, 5.0)
    image = events.Images("hessian/spectrum")[0]
    assert (image.width, image.height) == (50, 50)


def test_wandb_holds_one_row_a_record(tmp_path: Path, finished_run: Callable[[Path], WandbRun]) -> None:
    callback, logger = Emitting(("on_train_batch_end",)), WandbLogger(save_dir=tmp_path, offline=True)
    fit(tmp_path, logger=logger, callbacks=[callback])
    wandb.finish()
    (file,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    run = finished_run(file)
    rows = [row for row in run.history if "hessian/lambda_1" in row]
    assert [(row["trainer/global_step"], row["hessian/lambda_1"]) for row in rows] == [(s, 11 + s) for s in range(6)]
    assert rows[2]["regime/label"] == "label 3"
    assert rows[0]["hessian/eigenvalues"]["_type"] == "histogram"
    assert sum(rows[0]["hessian/eigenvalues"]["values"]) == 3
    picture = rows[0]["hessian/spectrum"]
    assert (picture["_type"], picture["width"], picture["height"]) == ("image-file", 50, 50)
    assert (file.parent / "files" / picture["path"]).is_file()


def test_scalars_can_be_monitored(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, monitor="hessian/lambda_1", mode="max", filename="{step}")
    stopping = EarlyStopping("hessian/lambda_1", mode="min", patience=1, check_on_train_epoch_end=True)
    trainer = fit(
        tmp_path,
        callbacks=[Emitting(("on_train_epoch_end",)), checkpoint, stopping],
        enable_checkpointing=True,
        max_epochs=5,
    )
    assert trainer.current_epoch == 2, "λ₁ grows, so patience ends after the second epoch"
    assert checkpoint.best_model_score == 16.0


@pytest.mark.parametrize("rich", [True, False])
def test_the_users_own_logging_is_untouched(tmp_path: Path, rich: bool) -> None:
    hooks = (*HOOKS, "on_train_batch_start", "on_before_optimizer_step", "on_validation_batch_end")
    logged: dict[str, Any] = {}
    for name, callbacks in (("without", []), ("with", [Emitting(hooks, rich=rich)])):
        loggers = [CSVLogger(tmp_path / name), TensorBoardLogger(tmp_path / name)]
        trainer = fit(tmp_path, logger=loggers, callbacks=callbacks)
        rows = [
            {key: value for key, value in row.items() if not key.startswith("hessian/")} for row in csv_rows(loggers[0])
        ]
        metrics = {key: value for key, value in trainer.callback_metrics.items() if key.startswith("user/")}
        logged[name] = [row for row in rows if any(row[key] for key in row if key.startswith("user/"))], metrics
    assert logged["with"] == logged["without"]


def random_state() -> Any:
    name, keys, *rest = np.random.get_state(legacy=True)
    return random.getstate(), (name, np.asarray(keys).tobytes(), rest), torch.get_rng_state().tolist()


def test_random_generators_are_untouched(tmp_path: Path) -> None:
    class Checking(Emitting):
        def _hook(self, hook: str, rich: bool) -> Any:
            run = super()._hook(hook, rich)

            def checked(*arguments: Any) -> None:
                before = random_state()
                run(*arguments)
                assert random_state() == before

            return checked

    loggers = [WandbLogger(save_dir=tmp_path, offline=True), TensorBoardLogger(tmp_path), CSVLogger(tmp_path)]
    fit(tmp_path, logger=loggers, callbacks=[Checking()], max_epochs=1)


class Broken(Logger):
    name, version = "broken", "0"

    def log_metrics(self, metrics: Any, step: Any = None) -> None:
        if any(key.startswith("hessian/") for key in metrics):
            raise ConnectionError("no route to host")

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass


def test_a_logger_that_fails_is_warned_about_once(tmp_path: Path) -> None:
    callback, csv_logger = Emitting(), CSVLogger(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = fit(tmp_path, logger=[Broken(), csv_logger], callbacks=[callback])
    assert trainer.global_step == 6
    messages = [str(warning.message) for warning in caught if "no route to host" in str(warning.message)]
    assert len(messages) == 1
    assert messages[0].startswith("Broken did not take the record of 'hessian'")
    assert len([row for row in csv_rows(csv_logger) if row["hessian/lambda_1"]]) == len(callback.emitted)


def test_figures_are_not_drawn_where_no_logger_shows_them(tmp_path: Path) -> None:
    def never() -> Figure:
        raise AssertionError("drawn")

    class Drawing(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, *_: Any) -> None:
            emit(trainer, module, Record("hessian", 0, 0, 0, figures={"hessian/spectrum": never}))

    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*did not take the record")
        fit(tmp_path, logger=CSVLogger(tmp_path), callbacks=[Drawing()])


def test_the_other_namespace(tmp_path: Path) -> None:
    callback, logger = Emitting(), pytorch_lightning.loggers.TensorBoardLogger(tmp_path)
    trainer = fit(
        tmp_path, PytorchLightningBoringModel(), namespace=pytorch_lightning, logger=logger, callbacks=[callback]
    )
    assert trainer.callback_metrics["hessian/lambda_1"] == 16.0
    events = EventAccumulator(logger.log_dir).Reload()
    assert len(events.Scalars("hessian/lambda_1")) == len(callback.emitted)
    assert events.Images("hessian/spectrum")
