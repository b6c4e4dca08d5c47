"""What every callback measures reaches every logger as it is, to the last bit."""

import csv
import math
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import wandb
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes import callbacks
from lightning_regimes.dashboard import WandbRun
from lightning_regimes.optim import ProjectedSGDFactory
from lightning_regimes.recording import Record, describe, read_records


class Watched(L.LightningModule):
    """A small classifier that also has what callbacks of operators and refinements ask for."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self) -> Any:
        return ProjectedSGDFactory(keep="all", lr=0.1)(self)

    def field_on_grid(self) -> dict[str, torch.Tensor]:
        axis = torch.linspace(0, 1, 3)
        return {"axis_0": axis, "axis_1": axis, "prediction": self.net[0].weight[:3, :3], "reference": torch.eye(3)}

    def refinement_curve(self) -> Any:
        waves = torch.arange(4.0)
        return SimpleNamespace(
            num_steps=1,
            vrmse=torch.tensor([1.0, 1 / 3, 0.5]),
            bands=torch.rand(3, 3) + 1,
            wavenumbers=waves,
            spectra=torch.ones(3, 4),
            error_spectra=torch.ones(3, 4),
            reference_spectrum=torch.ones(4),
            updates=torch.ones(2),
            contraction_rate=0.1,
            contraction_norm=2 / 3,
            error_floor=math.inf,
            num_nonfinite=0,
        )


class WithGraph(L.LightningDataModule):
    """Points for the classifier, and beside them a graph that can be sanitized."""

    def __init__(self) -> None:
        super().__init__()
        from torch_geometric.data import Data

        x = torch.randn(60, 6)
        self.points = TensorDataset(x, x[:, :3].argmax(1))
        edges = torch.randint(0, 16, (2, 40))
        edges = edges[:, edges[0] != edges[1]]
        self.data = Data(
            x=torch.randn(16, 5),
            y=torch.arange(16) % 2,
            edge_index=torch.cat([edges, edges.flip(0)], 1).unique(dim=1),
            train_mask=torch.arange(16) < 8,
            val_mask=torch.arange(16) >= 12,
            test_mask=(torch.arange(16) >= 8) & (torch.arange(16) < 12),
        )

    def train_dataloader(self) -> Any:
        return DataLoader(self.points, batch_size=20)

    def val_dataloader(self) -> Any:
        return DataLoader(self.points, batch_size=30)


def all_callbacks(reference: Path) -> list[L.Callback]:
    often: dict[str, Any] = {"every_n_steps": 3}
    # Drawing the pictures takes most of the time.
    once: dict[str, Any] = {"every_n_steps": 6}
    return [
        callbacks.HessianSpectrum(2, num_trace_samples=2, density_vectors=2, density_steps=3, row_blocks=True, **often),
        callbacks.GradientAlignment(2, num_batches=2, **once),
        callbacks.LossLandscape(points=5, trajectory=4, **once),
        callbacks.RegimeDetection(error_metric="val_loss", **often),
        callbacks.ModeConnectivity(reference, steps=2, points=3),
        callbacks.CKASimilarity(num_batches=2, **once),
        callbacks.DiagonalDominance(**once),
        callbacks.HeavyTail(min_size=3, **once),
        callbacks.LayerSplit(learning_rate=0.1, **once),
        callbacks.FieldSnapshot(**once),
        callbacks.RefinementCurve(**once),
        callbacks.DominantProjection(2, every_n_steps=3),
        callbacks.KCESPreprocessing(),
        callbacks.RegimeGuidedOptimizer(every_n_gradients=3, error_metric="val_loss"),
    ]


@dataclass(frozen=True)
class Trained:
    """Records as the callbacks made them, and where they went."""

    records: list[Record]
    directory: Path
    trainer: Any

    def points(self, key: str) -> list[tuple[int, float]]:
        return [(record.step, record.scalars[key]) for record in self.records if key in record.scalars]

    @property
    def keys(self) -> set[str]:
        return {key for record in self.records for key in record.scalars}


def train(folder: Path, loggers: Any) -> Trained:
    L.seed_everything(3, verbose=False)
    records: list[Record] = []
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for module in ("diagnostic", "kces_preprocessing"):
            name = f"lightning_regimes.callbacks.{module}.emit"
            emit = _resolve(name)
            patch.setattr(name, lambda *given, emit=emit: (records.append(given[2]), emit(*given)))
        model, data = Watched(), WithGraph()
        torch.save(Watched().state_dict(), folder / "reference.pt")
        trainer = L.Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            max_epochs=2,
            logger=loggers,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=all_callbacks(folder / "reference.pt"),
        )
        trainer.regimes_run_directory = folder  # type: ignore[attr-defined]
        trainer.fit(model, datamodule=data)
    return Trained(records, folder, trainer)


def _resolve(name: str) -> Callable[..., None]:
    import importlib

    module, _, attribute = name.rpartition(".")
    found: Callable[..., None] = getattr(importlib.import_module(module), attribute)
    return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("loggers")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_MODE": "offline"}.items():
            patch.setenv(name, value)
        patch.setenv("WANDB_DATA_DIR", str(folder / "data"))
        loggers = [
            WandbLogger(save_dir=folder, offline=True),
            CSVLogger(folder, name="csv"),
            TensorBoardLogger(folder, name="tensorboard"),
        ]
        try:
            run = train(folder, loggers)
        finally:
            wandb.finish()
        yield run


def bits(values: list[tuple[int, float]]) -> list[tuple[int, bytes]]:
    """Steps and values such that equality means the same bits, of zeros and infinities too; NaN is NaN."""
    return [(step, b"nan" if math.isnan(value) else struct.pack("<d", value)) for step, value in values]


def single(values: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The values as 32-bit floats."""
    with np.errstate(over="ignore"):
        return [(step, float(np.float32(value))) for step, value in values]


def test_every_callback_is_among_them_and_says_only_what_the_vocabulary_knows(trained: Trained) -> None:
    diagnostics = {
        name: getattr(getattr(callbacks, name), "name", "kces")
        for name in callbacks.__all__
        if name not in ("Diagnostic", "Measurement", "RandomState")
    }
    recorded = {record.diagnostic for record in trained.records}
    assert set(diagnostics.values()) == recorded
    for record in trained.records:
        for key in (*record.scalars, *record.text, *record.arrays, *record.figures, *record.tables):
            assert describe(key).meaning


def test_the_journal_holds_them(trained: Trained) -> None:
    kept = read_records(trained.directory)
    assert len(kept) == len(trained.records)
    for read, record in zip(kept, trained.records, strict=True):
        assert (read.diagnostic, read.step, read.global_step) == (record.diagnostic, record.step, record.global_step)
        assert bits([(0, v) for v in read.scalars.values()]) == bits([(0, v) for v in record.scalars.values()])
        assert read.scalars.keys() == record.scalars.keys()
        assert read.text == record.text
        assert read.arrays.keys() == record.arrays.keys()
        for key, array in record.arrays.items():
            assert read.arrays[key].dtype == array.dtype
            assert read.arrays[key].tobytes() == array.tobytes()


def test_wandb_holds_them(trained: Trained, finished_run: Callable[[Path], WandbRun]) -> None:
    (file,) = trained.directory.glob("wandb/offline-run-*/*.wandb")
    rows = finished_run(file).history
    for key in trained.keys:
        logged = [(row["trainer/global_step"], float(row[key])) for row in rows if key in row]
        assert bits(logged) == bits(trained.points(key)), key
    for record in trained.records:
        row = next(row for row in rows if all(row.get(key) == text for key, text in record.text.items()))
        assert row
    in_wandb = {key for row in rows for key in row}
    assert {key for record in trained.records for key in (*record.figures, *record.tables)} <= in_wandb
    for key in in_wandb:
        assert key.startswith(("_", "trainer/")) or key in ("epoch", "val_loss") or describe(key).meaning


def test_csv_holds_them(trained: Trained) -> None:
    with (trained.directory / "csv" / "version_0" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for key in trained.keys:
        logged = [(int(row["step"]), float(row[key])) for row in rows if row[key]]
        assert bits(logged) == bits(trained.points(key)), key


def test_tensorboard_holds_them_in_the_precision_of_its_format(trained: Trained) -> None:
    # An event file has a scalar in 32 bits: the bits are those of the value rounded to them.
    events = EventAccumulator(str(trained.directory / "tensorboard" / "version_0")).Reload()
    for key in trained.keys:
        logged = [(event.step, event.value) for event in events.Scalars(key)]
        assert bits(logged) == bits(single(trained.points(key))), key


def test_without_a_logger_they_can_be_monitored_and_are_kept(tmp_path: Path, trained: Trained) -> None:
    alone = train(tmp_path, False)
    test_the_journal_holds_them(alone)
    for key in alone.keys:
        # Lightning's metrics are tensors of the default precision.
        assert bits([(0, alone.trainer.callback_metrics[key].item())]) == bits(
            single([(0, alone.points(key)[-1][1])])
        ), key
    measured = [key for key in alone.keys if not key.endswith(("/seconds", "/overhead"))]
    for key in measured:
        assert bits(alone.points(key)) == bits(trained.points(key)), f"{key} depends on the loggers"
