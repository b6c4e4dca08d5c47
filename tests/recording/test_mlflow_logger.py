"""Records in MLflow's file store."""

import struct
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel

from lightning_regimes.callbacks import HessianSpectrum, RegimeDetection
from lightning_regimes.recording import read_records

pytestmark = pytest.mark.peer


def test_the_file_store_holds_every_scalar_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    # MLflow keeps its file store for those who ask for it.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from lightning.pytorch.loggers import MLFlowLogger

    torch.manual_seed(0)
    logger = MLFlowLogger("diagnostics", tracking_uri=f"file:{tmp_path / 'mlruns'}")
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=6,
        limit_val_batches=0,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[HessianSpectrum(2, every_n_steps=2), RegimeDetection(every_n_steps=3)],
    )
    trainer.fit(BoringModel())
    (path,) = tmp_path.rglob("records.jsonl")
    records = read_records(path.parents[1])
    assert {record.diagnostic for record in records} == {"hessian", "regime"}
    client = mlflow.MlflowClient(tracking_uri=f"file:{tmp_path / 'mlruns'}")
    for key in {key for record in records for key in record.scalars}:
        logged = [
            (point.step, struct.pack("<d", point.value)) for point in client.get_metric_history(logger.run_id, key)
        ]
        recorded = [(r.step, struct.pack("<d", r.scalars[key])) for r in records if key in r.scalars]
        assert sorted(logged) == sorted(recorded), key
