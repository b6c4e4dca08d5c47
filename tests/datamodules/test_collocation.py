"""Collocation points: where they lie, when they change, and what drawing them leaves alone."""

import lightning as L
import pytest
import torch

from lightning_regimes.datamodules import Collocation
from lightning_regimes.pde import Convection, Wave, heldout_points


class Recorder(L.LightningModule):
    """Remembers the batches it's trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.batches: list[dict[str, torch.Tensor]] = []

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.batches.append(batch)
        return self.weight**2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained_batches(datamodule: Collocation, epochs: int) -> list[dict[str, torch.Tensor]]:
    module = Recorder()
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule)
    return module.batches


def test_benchmark_layout() -> None:
    batch = Collocation(Convection(), num_interior=1000).training_batch()
    assert {name: tuple(points.shape) for name, points in batch.items()} == {
        "interior": (1000, 2),
        "initial": (257, 2),
        "periodic": (101, 2),
    }
    assert batch["interior"].dtype == torch.float32
    grid = {tuple(row) for row in Convection().interior_grid().float().tolist()}
    chosen = {tuple(row) for row in batch["interior"].tolist()}
    assert len(chosen) == 1000
    assert chosen <= grid
    assert Collocation(Wave()).training_batch()["boundary"].shape == (202, 2)


@pytest.mark.parametrize("sampling", ["uniform", "sobol"])
def test_free_points_fill_the_box(sampling: str) -> None:
    datamodule = Collocation(Wave(), num_interior=512, sampling=sampling, num_condition=64)  # type: ignore[arg-type]
    batch = datamodule.training_batch()
    assert batch["interior"].shape == (512, 2)
    assert batch["boundary"].shape == (128, 2)
    assert batch["interior"].mean(dim=0).tolist() == pytest.approx([0.5, 0.5], abs=0.05)
    assert not torch.equal(batch["interior"], datamodule.training_batch(1)["interior"])


def test_seed_decides_the_points_and_nothing_else_is_touched() -> None:
    state = torch.get_rng_state()
    first = Collocation(Convection(), seed=1).training_batch()["interior"]
    torch.rand(3)
    assert torch.equal(Collocation(Convection(), seed=1).training_batch()["interior"], first)
    assert not torch.equal(Collocation(Convection(), seed=2).training_batch()["interior"], first)
    torch.set_rng_state(state)
    trained_batches(Collocation(Convection(), num_interior=10, batch_size=3), epochs=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_full_batch_is_the_same_object_in_every_step() -> None:
    batches = trained_batches(Collocation(Convection(), num_interior=10, steps_per_epoch=3), epochs=2)
    assert len(batches) == 6
    assert len({id(batch["interior"]) for batch in batches}) == 1


def test_resampling_follows_the_epoch() -> None:
    datamodule = Collocation(Convection(), num_interior=10, steps_per_epoch=2, resample_every_n_epochs=2)
    points = [batch["interior"] for batch in trained_batches(datamodule, epochs=4)]
    assert all(torch.equal(entry, points[0]) for entry in points[:4])
    assert all(torch.equal(entry, points[4]) for entry in points[4:])
    assert not torch.equal(points[0], points[4])
    assert torch.equal(points[4], datamodule.training_batch(1)["interior"])


def test_mini_batches_partition_the_interior() -> None:
    datamodule = Collocation(Convection(), num_interior=10, batch_size=4)
    batches = trained_batches(datamodule, epochs=2)
    assert [len(batch["interior"]) for batch in batches] == [4, 4, 2] * 2
    whole = {tuple(row) for row in datamodule.training_batch()["interior"].tolist()}
    epochs = [torch.cat([batch["interior"] for batch in half]) for half in (batches[:3], batches[3:])]
    for epoch in epochs:
        assert {tuple(row) for row in epoch.tolist()} == whole
    assert not torch.equal(*epochs)
    assert all(len(batch["initial"]) == 257 for batch in batches)


def test_validation_points_are_fixed() -> None:
    (batch,) = Collocation(Wave(), seed=5, num_validation=64).val_dataloader()
    expected = heldout_points(Wave(), 64)
    assert all(torch.equal(batch[name], expected[name].float()) for name in expected)


def test_prediction_runs_over_the_evaluation_grid() -> None:
    (points,) = Collocation(Convection()).predict_dataloader()
    assert points.shape == (129 * 101, 2)


def test_problem_comes_from_the_module() -> None:
    module = Recorder()
    module.problem = Convection(beta=2.0)  # type: ignore[assignment]
    datamodule = Collocation(num_interior=10, steps_per_epoch=1)
    with pytest.raises(RuntimeError, match="pass `problem=`"):
        datamodule.training_batch()
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule)
    assert datamodule.problem == Convection(beta=2.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_interior": 0}, "num_interior"),
        ({"batch_size": 0}, "batch_size"),
        ({"resample_every_n_epochs": -1}, "resample_every_n_epochs"),
        ({"sampling": "random"}, "sampling"),
    ],
)
def test_wrong_arguments_raise(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Collocation(Convection(), **arguments)


def test_too_many_grid_points_raise() -> None:
    with pytest.raises(ValueError, match="only 25500 points"):
        Collocation(Convection(), num_interior=25_501).training_batch()
