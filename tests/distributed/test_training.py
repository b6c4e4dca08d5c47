"""Diagnostics in a training by two processes: one record, the same numbers in both, and weights as without them."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from lightning_regimes.callbacks import (
    CKASimilarity,
    GradientAlignment,
    HessianSpectrum,
    LossLandscape,
    RegimeDetection,
)
from lightning_regimes.recording import read_records

pytestmark = [pytest.mark.distributed, pytest.mark.slow]

SIZE = 8


class Regression(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 12), nn.Tanh(), nn.Linear(12, 2))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = functional.mse_loss(self.net(batch[0]), batch[1])
        self.log("val_loss", loss, sync_dist=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def callbacks() -> list[L.Callback]:
    return [
        HessianSpectrum(2, every_n_steps=4, at_start=True, num_trace_samples=2),
        GradientAlignment(2, every_n_steps=4, num_batches=2),
        RegimeDetection(overhead_budget=0.9, num_batches=2),
        landscape(),
        CKASimilarity(every_n_steps=10, num_batches=2, at_end=False),
    ]


def landscape() -> LossLandscape:
    return LossLandscape(points=5, every_n_steps=10, at_end=False, backend="loop", trajectory=4)


def fit(
    callbacks: list[L.Callback], *, folder: str, batch_size: int, rank: int | None = None, **options: Any
) -> tuple[L.Trainer, Tensor]:
    generator = torch.Generator().manual_seed(1)
    data = TensorDataset(torch.randn(160, 4, generator=generator), torch.randn(160, 2, generator=generator))
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=30,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=callbacks,
        **options,
    )
    # Without shuffling, two batches together hold what one twice as large does.
    sampler = None if rank is None else DistributedSampler(data, num_replicas=2, rank=rank, shuffle=False)
    module = Regression()
    trainer.fit(module, DataLoader(data, batch_size=batch_size, sampler=sampler))
    return trainer, torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def records(folder: str) -> list[Any]:
    (path,) = Path(folder).rglob("records.jsonl")
    return list(read_records(path.parent.parent))


def work() -> dict[str, Any]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    options = {"rank": int(os.environ["RANK"]), "strategy": "ddp", "devices": 2, "batch_size": SIZE}
    with TemporaryDirectory() as folder:
        trainer, watched = fit(callbacks(), folder=folder, **options)
        found = records(folder) if trainer.is_global_zero else sorted(Path(folder).rglob("*.jsonl"))
        if trainer.is_global_zero:  # arrays are read when they are looked at, and the folder will be gone
            found = [replace(record, arrays=dict(record.arrays)) for record in found]
        metrics = {key: value.item() for key, value in trainer.callback_metrics.items()}
        _, bare = fit([], folder=folder, **options)
        return {"watched": watched, "bare": bare, "records": found, "metrics": metrics}


def test_weights_are_those_of_a_training_without_diagnostics(two_processes: list[Any]) -> None:
    for result in two_processes:
        assert torch.equal(result["watched"], result["bare"])
    assert torch.equal(two_processes[0]["watched"], two_processes[1]["watched"])


def test_the_first_process_records_and_all_monitor_the_same(two_processes: list[Any]) -> None:
    first, second = two_processes
    assert {record.diagnostic for record in first["records"]} == {
        "hessian",
        "alignment",
        "regime",
        "landscape",
        "similarity",
    }
    assert [record.global_step for record in first["records"] if record.diagnostic == "hessian"] == [
        0,
        *range(4, 31, 4),
    ]
    assert second["records"] == []
    keys = [key for key in first["metrics"] if key.startswith(("hessian/", "alignment/", "regime/"))]
    assert len(keys) > 20
    assert {key: first["metrics"][key] for key in keys} == {key: second["metrics"][key] for key in keys}


def test_numbers_are_those_of_one_process_with_all_samples(two_processes: list[Any], tmp_path: Path) -> None:
    spectrum = HessianSpectrum(2, every_n_steps=4, at_start=True, num_trace_samples=2)
    fit([spectrum], folder=str(tmp_path), batch_size=2 * SIZE)
    together = [record for record in two_processes[0]["records"] if record.diagnostic == "hessian"]
    for alone, record in zip(records(str(tmp_path)), together, strict=True):
        for key in ("hessian/lambda_1", "hessian/lambda_2", "hessian/trace"):
            assert record.scalars[key] == pytest.approx(alone.scalars[key], rel=1e-5)


def test_surfaces_are_those_of_one_process_with_all_samples(two_processes: list[Any], tmp_path: Path) -> None:
    fit([landscape()], folder=str(tmp_path), batch_size=2 * SIZE)
    together = [record for record in two_processes[0]["records"] if record.diagnostic == "landscape"]
    for alone, record in zip(records(str(tmp_path)), together, strict=True):
        for key in ("landscape/values", "landscape/axis_1", "landscape/trajectory"):
            np.testing.assert_allclose(record.arrays[key], alone.arrays[key], rtol=1e-4, atol=1e-6)


if __name__ == "__main__":
    torch.save(work(), sys.argv[1])
