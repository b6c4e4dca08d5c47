"""Song, Ahn and Yun's observation on real data."""

import lightning as L
import pytest

from lightning_regimes.callbacks import DominantProjection
from lightning_regimes.datamodules import HandwrittenDigits
from lightning_regimes.modules import Classifier
from lightning_regimes.optim import ProjectedSGDFactory
from lightning_regimes.recording import read_records

pytestmark = pytest.mark.reproduction


def series(tmp_path, callback, key, *, keep, lr, steps):
    L.seed_everything(0, verbose=False)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=steps // 10,
        logger=False,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(Classifier(optimizer=ProjectedSGDFactory(keep=keep, lr=lr)), HandwrittenDigits(batch_size=144))
    (path,) = tmp_path.rglob("records.jsonl")
    return {r.global_step: r.scalars[key] for r in read_records(path.parent.parent) if key in r.scalars}


def test_the_loss_falls_without_the_dominant_part_and_stays_with_nothing_else(tmp_path):
    losses = {
        keep: series(
            tmp_path / keep,
            DominantProjection(10, switch_step=1000, every_n_steps=20),
            "projection/train_loss",
            keep=keep,
            lr=0.3,
            steps=1800,
        )
        for keep in ("all", "bulk", "dominant")
    }
    assert losses["all"][1000] == losses["bulk"][1000] == losses["dominant"][1000]
    change = {keep: values[1800] / values[1000] - 1 for keep, values in losses.items()}
    assert change["all"] < -0.4
    assert change["bulk"] < -0.4
    assert abs(change["dominant"]) < 0.1
