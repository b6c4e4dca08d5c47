"""Darcy and Navier–Stokes data: what batches hold, on which grids, and how they are normalized."""

import re
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from lightning_regimes.datamodules import Darcy, NavierStokes
from lightning_regimes.datamodules.field_normalization import FieldNormalizer
from lightning_regimes.pde import DarcyFlow, KolmogorovFlow, NavierStokesFlow

SMALL = {"num_train": 5, "num_val": 3, "num_test": 2, "batch_size": 2, "progress": False}


def small_darcy(folder: Path, **options: Any) -> Darcy:
    datamodule = Darcy(**{**SMALL, "resolution": 9, "num_modes": 12, "cache_dir": str(folder), **options})
    datamodule.prepare_data()
    datamodule.setup("fit")
    return datamodule


def small_flow(folder: Path, **options: Any) -> NavierStokes:
    given = {"resolution": 8, "solver_resolution": 16, "num_frames": 5, "cache_dir": str(folder)}
    datamodule = NavierStokes(**{**SMALL, **given, **options})
    datamodule.setup("fit")
    return datamodule


def test_darcy_batches_solve_the_equation(tmp_path: Path) -> None:
    datamodule = small_darcy(tmp_path, test_resolutions=[17, 9, 5])
    batches = list(datamodule.train_dataloader())
    assert [tuple(batch["x"].shape) for batch in batches] == [(2, 1, 9, 9), (2, 1, 9, 9), (1, 1, 9, 9)]
    for batch in batches:
        assert set(batch["x"].unique().tolist()) <= {3.0, 12.0}
        residual = datamodule.residual(batch["x"].double(), batch["y"].double())
        assert residual.shape[1:] == (1, 7, 7)
        assert residual.abs().max() < 1e-4  # rounding of u to float32, times a/h²
    assert datamodule.dataloader_names("val") == ("9", "17", "5")
    for loader, size in zip(datamodule.val_dataloader(), (9, 17, 5), strict=True):
        assert {tuple(batch["y"].shape[1:]) for batch in loader} == {(1, size, size)}


def test_samples_are_the_same_at_every_resolution(tmp_path: Path) -> None:
    datamodule = small_darcy(tmp_path, test_resolutions=[17], num_test=4)
    coarse, fine = datamodule.fields("test"), datamodule.fields("test", 17)
    assert torch.equal(coarse["x"], fine["x"][..., ::2, ::2])
    assert not torch.equal(coarse["y"], fine["y"][..., ::2, ::2])
    solved_fine = small_darcy(tmp_path, test_resolutions=[17], num_test=4, solver_resolution=33)
    coarse, fine = solved_fine.fields("test"), solved_fine.fields("test", 17)
    assert torch.equal(coarse["y"], fine["y"][..., ::2, ::2])
    assert torch.equal(coarse["x"], datamodule.fields("test")["x"])


def test_parts_do_not_depend_on_each_other(tmp_path: Path) -> None:
    few, more = small_darcy(tmp_path), small_darcy(tmp_path, num_train=7, test_resolutions=[5])
    assert torch.equal(few.fields("train")["y"], more.fields("train")["y"][:5])
    assert torch.equal(few.fields("test")["y"], more.fields("test")["y"])
    assert not torch.equal(few.fields("train")["y"][:2], few.fields("test")["y"][:2])
    other = small_darcy(tmp_path, seed=1)
    assert not torch.equal(few.fields("train")["x"], other.fields("train")["x"])


def test_normalizers_are_fitted_to_the_training_part(tmp_path: Path) -> None:
    datamodule = small_darcy(tmp_path)
    for name, field in datamodule.fields("train").items():
        normalizer = datamodule.normalizers[name]
        normalized = normalizer.normalize(field)
        assert normalized.mean().item() == pytest.approx(0, abs=1e-5)
        assert normalized.std(correction=0).item() == pytest.approx(1, abs=1e-5)
        torch.testing.assert_close(normalizer.denormalize(normalized), field)
    finer = torch.randn(2, 1, 30, 31)
    assert datamodule.normalizers["x"](finer).shape == finer.shape
    assert list(datamodule.normalizers["y"].state_dict()) == ["mean", "std"]


def test_a_constant_channel_is_only_shifted() -> None:
    fields = torch.stack([torch.full((4, 6), 7.0), torch.arange(24.0).view(4, 6)], dim=1)
    normalizer = FieldNormalizer.fit(fields)
    assert normalizer.std[0] == 1
    assert torch.equal(normalizer(fields)[:, 0], torch.zeros(4, 6))
    with pytest.raises(ValueError, match="`std` must be positive"):
        FieldNormalizer(torch.zeros(1), torch.zeros(1))


def test_flow_batches_are_windows_of_trajectories(tmp_path: Path) -> None:
    datamodule = small_flow(tmp_path, history=2)
    frames = datamodule.trajectories("train")
    assert frames.shape == (5, 5, 8, 8)
    assert datamodule.input_channels == 2
    pairs = datamodule.fields("train")
    assert pairs["x"].shape == (15, 2, 8, 8)
    for number in range(15):
        trajectory, time = divmod(number, 3)
        assert torch.equal(pairs["x"][number], frames[trajectory, time : time + 2])
        assert torch.equal(pairs["y"][number, 0], frames[trajectory, time + 2])
    seen = {tuple(row.tolist()) for batch in datamodule.train_dataloader() for row in batch["y"][:, 0, 0]}
    assert seen == {tuple(row.tolist()) for row in pairs["y"][:, 0, 0]}
    single = datamodule.train_dataloader().dataset[4]
    assert torch.equal(single["x"], pairs["x"][4])


def test_flow_is_that_of_the_solver(tmp_path: Path) -> None:
    flow = NavierStokesFlow(viscosity=1e-3, step=0.1)
    datamodule = small_flow(
        tmp_path, problem=flow, test_resolutions=[16], num_skipped=2, num_frames=3, frame_interval=0.5
    )
    initial = flow.initial(range(2), resolution=16, seed=(0, 2))
    expected = flow.solve(initial, num_frames=5, frame_interval=0.5)[:, 2:].float()
    torch.testing.assert_close(datamodule.trajectories("test", 16), expected, atol=1e-7, rtol=0)
    assert torch.equal(datamodule.trajectories("test"), datamodule.trajectories("test", 16)[..., ::2, ::2])


def test_rollouts_follow_the_pairs(tmp_path: Path) -> None:
    datamodule = small_flow(tmp_path, history=2, test_resolutions=[16])
    assert datamodule.dataloader_names("test") == ("8", "16", "rollout")
    loaders = datamodule.test_dataloader()
    assert len(loaders) == 3
    (batch,) = loaders[-1]
    frames = datamodule.trajectories("test")
    assert torch.equal(torch.cat([batch["x"], batch["trajectory"]], dim=1), frames)
    assert torch.equal(batch["y"], batch["trajectory"][:, :1])


def test_frames_share_their_normalization(tmp_path: Path) -> None:
    datamodule = small_flow(tmp_path, history=3)
    x, y = datamodule.normalizers["x"], datamodule.normalizers["y"]
    frames = datamodule.trajectories("train")
    assert x.mean.tolist() == pytest.approx([frames.mean().item()] * 3, abs=1e-6)
    assert x.std.tolist() == pytest.approx([frames.std(correction=0).item()] * 3, rel=1e-5)
    assert y.mean.tolist() + y.std.tolist() == [x.mean[0].item(), x.std[0].item()]


def test_a_trainer_trains_on_them(tmp_path: Path) -> None:
    class Linear(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Conv2d(1, 1, 1)

        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
            loss = (self.layer(batch["x"]) - batch["y"]).square().mean()
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch: dict[str, torch.Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val_loss", (self.layer(batch["x"]) - batch["y"]).square().mean())

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    datamodule = NavierStokes(
        KolmogorovFlow(step=0.05),
        **SMALL,  # type: ignore[arg-type]
        resolution=8,
        solver_resolution=8,
        num_frames=3,
        cache_dir=str(tmp_path),
    )
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Linear(), datamodule)
    assert {"val_loss/dataloader_idx_0", "val_loss/dataloader_idx_1"} <= set(trainer.callback_metrics)


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (Darcy, {"num_train": 0}, "`num_train` must be at least 1, got 0."),
        (Darcy, {"resolution": 2}, "must be at least 3, got 2"),
        (Darcy, {"seed": -1}, "`seed` must not be negative"),
        (Darcy, {"num_workers": -1}, "`num_workers` must not be negative"),
        (Darcy, {"num_modes": 1}, "`num_modes` must be at least 2"),
        (Darcy, {"solver_resolution": 40}, "nodes of resolution 33 are no nodes of `solver_resolution`, which is 40"),
        (NavierStokes, {"history": 0}, "`history` must be at least 1"),
        (NavierStokes, {"history": 20}, "`num_frames` must be above `history`, which is 20, got 20"),
        (NavierStokes, {"num_skipped": -1}, "`num_skipped` must not be negative"),
        (NavierStokes, {"frame_interval": 0.0}, "`frame_interval` must be positive"),
        (NavierStokes, {"resolution": 24}, "nodes of resolution 24 are no nodes of `solver_resolution`, which is 64"),
    ],
)
def test_wrong_arguments_raise(kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(**arguments)


def test_fields_before_setup_and_of_unknown_parts_raise(tmp_path: Path) -> None:
    datamodule = Darcy(DarcyFlow(contrast=2.0))
    with pytest.raises(RuntimeError, match="before `setup`"):
        datamodule.fields("train")
    with pytest.raises(RuntimeError, match="before `setup`"):
        _ = datamodule.normalizers
    with pytest.raises(ValueError, match="the train part has the resolutions 9, got 65"):
        small_darcy(tmp_path).fields("train", 65)
    with pytest.raises(ValueError, match='`part` must be "train", "val" or "test"'):
        datamodule.fields("validation")
