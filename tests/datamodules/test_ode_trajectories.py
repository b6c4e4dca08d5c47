"""Trajectories: which times and states a batch has, what is held out, and what making them leaves alone."""

import itertools

import lightning as L
import pytest
import torch

from lightning_regimes.datamodules import ODETrajectories
from lightning_regimes.pde import DampedPendulum, LotkaVolterra, TwoBody


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


def trained_batches(datamodule: ODETrajectories, epochs: int) -> list[dict[str, torch.Tensor]]:
    module = Recorder()
    silent = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    L.Trainer(max_epochs=epochs, accelerator="cpu", enable_model_summary=False, **silent).fit(module, datamodule)
    return module.batches


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_segments_are_parts_of_a_solution(double) -> None:
    system = DampedPendulum(damping=0.5)
    data = ODETrajectories(system, num_trajectories=3, horizon=2.0, segment_length=8)
    batch = data.training_batch()
    assert batch["times"].shape == (3 * 5, 9)
    assert batch["states"].shape == (3 * 5, 9, 2)
    torch.testing.assert_close(batch["times"], 0.05 * torch.arange(9).double().expand(15, 9), rtol=1e-14, atol=0)
    for segment, times in zip(batch["states"], batch["times"], strict=True):
        torch.testing.assert_close(segment, system.solve(segment[:1], times)[0], rtol=0, atol=1e-9)
    # Segments of one trajectory touch; those of the next start elsewhere.
    first = batch["states"][:5]
    assert torch.equal(first[:-1, -1], first[1:, 0])
    assert not torch.equal(batch["states"][4, -1], batch["states"][5, 0])


def test_whole_trajectories_and_overlapping_segments() -> None:
    whole = ODETrajectories(LotkaVolterra(), num_trajectories=2, horizon=3.0, segment_length=None).training_batch()
    assert whole["states"].shape == (2, 61, 2)
    parts = ODETrajectories(LotkaVolterra(), num_trajectories=2, horizon=3.0, stride=1).training_batch()
    assert parts["states"].shape == (2 * 51, 11, 2)
    assert torch.equal(parts["states"][7], whole["states"][0, 7:18])


def test_a_batch_is_of_the_default_dtype() -> None:
    batch = ODETrajectories(DampedPendulum(), horizon=1.0).training_batch()
    assert {entry.dtype for entry in batch.values()} == {torch.float32}


def test_given_initial_states_are_where_training_starts() -> None:
    data = ODETrajectories(DampedPendulum(), initial_states=[[2.0, 0.0], [1.0, -0.5]], segment_length=None, horizon=1.0)
    assert data.training_batch()["states"][:, 0].tolist() == [[2.0, 0.0], [1.0, -0.5]]


def test_no_initial_state_is_used_twice() -> None:
    data = ODETrajectories(DampedPendulum(), horizon=1.0, rollout_horizon=3.0, segment_length=None)
    parts = [data.training_batch(), data.heldout_batch(), data.rollout_batch("test")]
    starts = [{tuple(row) for row in part["states"][:, 0].tolist()} for part in parts]
    assert [len(part) for part in starts] == [8, 8, 8]
    assert all(not a & b for a, b in itertools.combinations(starts, 2))
    rollouts = data.rollout_batch("val")
    assert rollouts["states"].shape == (8, 61, 2)
    assert torch.equal(rollouts["states"][:, :21], parts[1]["states"])


def test_what_is_held_out_does_not_depend_on_the_seed_and_has_no_noise() -> None:
    first, second = (ODETrajectories(TwoBody(), horizon=1.0, seed=seed, noise=0.1) for seed in (0, 1))
    assert not torch.equal(first.training_batch()["states"], second.training_batch()["states"])
    assert torch.equal(first.heldout_batch()["states"], second.heldout_batch()["states"])
    assert torch.equal(first.rollout_batch()["states"], second.rollout_batch()["states"])
    energies = TwoBody().quantities(first.rollout_batch()["states"].double())["energy"]
    # Orbits of semi-major axis 1.
    torch.testing.assert_close(energies, torch.full_like(energies, -0.5), rtol=0, atol=1e-5)


def test_noise_has_the_size_that_was_asked_for() -> None:
    options = {"num_trajectories": 16, "segment_length": None, "seed": 3}
    clean, noisy = (
        ODETrajectories(LotkaVolterra(), noise=noise, **options).training_batch()["states"] for noise in (0.0, 0.2)
    )
    deviation = (noisy - clean).reshape(-1, 2).std(dim=0) / clean.reshape(-1, 2).std(dim=0)
    assert deviation.tolist() == pytest.approx([0.2, 0.2], rel=0.05)


def test_irregular_times_increase_and_have_the_states_of_the_solution(double) -> None:
    system = DampedPendulum()
    batch = ODETrajectories(system, horizon=2.0, jitter=0.49, segment_length=10).training_batch()
    lengths = batch["times"].diff(dim=1)
    assert lengths.min() > 0
    assert lengths.min() < 0.04 < 0.06 < lengths.max()
    assert not torch.equal(batch["times"][0], batch["times"][1])
    for segment, times in zip(batch["states"][:8], batch["times"][:8], strict=True):
        torch.testing.assert_close(segment, system.solve(segment[:1], times)[0], rtol=0, atol=1e-9)


def test_the_full_batch_is_the_same_object_in_every_step() -> None:
    batches = trained_batches(ODETrajectories(DampedPendulum(), horizon=1.0, steps_per_epoch=3), epochs=2)
    assert len(batches) == 6
    assert len({id(batch["states"]) for batch in batches}) == 1


def test_mini_batches_partition_the_segments() -> None:
    data = ODETrajectories(DampedPendulum(), horizon=2.5, batch_size=16)
    batches = trained_batches(data, epochs=2)
    assert [len(batch["times"]) for batch in batches] == [16, 16, 8] * 2
    whole = sorted(data.training_batch()["states"].flatten(1).tolist())
    epochs = [torch.cat([batch["states"] for batch in half]) for half in (batches[:3], batches[3:])]
    assert [sorted(epoch.flatten(1).tolist()) for epoch in epochs] == [whole, whole]
    assert not torch.equal(*epochs)


def test_seed_decides_and_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    options = {"horizon": 1.0, "noise": 0.1, "jitter": 0.1, "seed": 5, "batch_size": 2}
    first, second = (ODETrajectories(DampedPendulum(), **options) for _ in range(2))
    assert torch.equal(first.training_batch()["states"], second.training_batch()["states"])
    assert all(
        torch.equal(a["times"], b["times"])
        for a, b in zip(*(iter(d.train_dataloader()) for d in (first, second)), strict=True)
    )
    first.rollout_batch()
    assert torch.equal(torch.get_rng_state(), state)


def test_the_system_comes_from_the_module() -> None:
    data = ODETrajectories(horizon=1.0, steps_per_epoch=1)
    with pytest.raises(RuntimeError, match="pass `system=`"):
        data.training_batch()
    module = Recorder()
    module.system = LotkaVolterra()  # type: ignore[assignment]
    L.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False).fit(
        module, data
    )
    assert data.system == LotkaVolterra()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_trajectories": 0}, "`num_trajectories`"),
        ({"segment_length": 0}, "`segment_length`"),
        ({"horizon": 0.0}, "`horizon` must be positive"),
        ({"step": -0.1}, "`step`"),
        ({"noise": -0.1}, "`noise`"),
        ({"jitter": 0.5}, "would not increase"),
        ({"initial_states": []}, "`initial_states`"),
        ({"initial_states": [[1.0]]}, r"shape \(N, 2\)"),
        ({"horizon": 0.3}, "only 6 steps of 0.05"),
        ({"horizon": 0.52}, "multiple of `step`"),
    ],
)
def test_wrong_arguments_raise(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ODETrajectories(DampedPendulum(), **options).training_batch()
