"""Learning rates of layers: their schedule, their groups and the probe of their split."""

import math

import lightning as L
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes import LossProbe
from lightning_regimes.optim import (
    CosineWithWarmup,
    LayerBalancedLR,
    Muon,
    layer_names,
    layerwise_lr_groups,
    probe_layer_split,
    row_normalize,
)
from lightning_regimes.theory import relative_angles, two_layer_loss

WIDTH = 24


def optimizer_of(*rates):
    return torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates], lr=1.0)


def history(scheduler, steps):
    rates = []
    for _ in range(steps):
        rates.append([float(group["lr"]) for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return torch.tensor(rates, dtype=torch.float64)


def test_one_unequal_step_and_equal_ones_after():
    rates = history(LayerBalancedLR(optimizer_of(0.5, 0.5), (0.04, 1.96)), 4)
    torch.testing.assert_close(rates[:, 0], torch.tensor([0.02, 0.5, 0.5, 0.5]).double())
    torch.testing.assert_close(rates.sum(1), torch.ones(4).double(), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("ramp", "shares"),
    [
        ("step", [1, 1, 0, 0, 0, 0]),
        ("linear", [1, 1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [1, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
    ],
)
def test_ramps(ramp, shares):
    options = {} if ramp == "step" else {"ramp_steps": 3}
    scheduler = LayerBalancedLR(optimizer_of(1.0, 1.0), (1, 0), balance_steps=2, ramp=ramp, **options)
    torch.testing.assert_close(history(scheduler, 6)[:, 0], 1 + torch.tensor(shares, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(
    rates=st.lists(st.floats(1e-4, 10), min_size=3, max_size=3),
    multipliers=st.lists(st.floats(0.01, 5), min_size=3, max_size=3),
    after=st.lists(st.floats(0.01, 5), min_size=3, max_size=3),
    balance_steps=st.integers(0, 3),
    ramp=st.sampled_from(["step", "linear", "cosine"]),
)
def test_the_sum_of_the_rates_is_that_of_the_schedule_within(rates, multipliers, after, balance_steps, ramp):
    options = {"balance_steps": balance_steps, "ramp": ramp, "after": after}
    alone = CosineWithWarmup(optimizer_of(*rates), total_steps=6, warmup=0.4)
    balanced = LayerBalancedLR(
        optimizer_of(*rates),
        multipliers,
        schedule=lambda it: CosineWithWarmup(it, total_steps=6, warmup=0.4),
        **options,
    )
    expected, found = history(alone, 8), history(balanced, 8)
    torch.testing.assert_close(found.sum(1), expected.sum(1), rtol=1e-12, atol=1e-12)
    in_proportion = torch.tensor(after, dtype=torch.float64) * expected[-1]
    torch.testing.assert_close(found[-1] / found[-1].sum(), in_proportion / in_proportion.sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", [lambda it: StepLR(it, 2), lambda it: CosineAnnealingLR(it, 10)])
def test_a_schedule_that_goes_on_from_its_own_rates_is_not_misled(schedule):
    alone, balanced = schedule(optimizer_of(0.3, 0.5)), optimizer_of(0.3, 0.5)
    scheduler = LayerBalancedLR(balanced, (3, 1), balance_steps=3, schedule=schedule)
    torch.testing.assert_close(history(scheduler, 8)[3:], history(alone, 8)[3:], rtol=1e-14, atol=0)


def test_groups_without_a_multiplier_stay_alone():
    optimizer = optimizer_of(0.5, 0.7, 0.5)
    LayerBalancedLR(optimizer, (1, None, 0))
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 0.7, 0.0]


def test_rates_that_are_tensors_stay_so():
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))]} for _ in range(2)], lr=torch.tensor(0.5))
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(0.5)
    scheduler = LayerBalancedLR(optimizer, (1, 0), schedule=lambda it: StepLR(it, 1, gamma=0.5))
    tensors = [group["lr"] for group in optimizer.param_groups]
    assert [float(lr) for lr in tensors] == [1.0, 0.0]
    optimizer.step()
    scheduler.step()
    assert all(group["lr"] is lr for group, lr in zip(optimizer.param_groups, tensors, strict=True))
    assert [float(lr) for lr in tensors] == [0.25, 0.25]


@pytest.mark.parametrize("schedule", [None, lambda it: StepLR(it, 2)])
def test_a_state_is_plain_and_goes_on(tmp_path, schedule):
    options = {"balance_steps": 2, "ramp": "linear", "schedule": schedule}
    whole = history(LayerBalancedLR(optimizer_of(0.5, 0.5), (3, 1), **options), 8)
    first = LayerBalancedLR(optimizer_of(0.5, 0.5), (3, 1), **options)
    history(first, 3)
    torch.save([first.optimizer.state_dict(), first.state_dict()], tmp_path / "state.pt")
    optimizer_state, state = torch.load(tmp_path / "state.pt", weights_only=True)
    second = LayerBalancedLR(optimizer_of(0.5, 0.5), (1, 1), **options)
    second.optimizer.load_state_dict(optimizer_state)
    second.load_state_dict(state)
    assert torch.equal(history(second, 5), whole[3:])
    with pytest.raises(ValueError, match="`state_dict` is of"):
        LayerBalancedLR(
            optimizer_of(1.0, 1.0), (1, 1), schedule=None if schedule else lambda it: StepLR(it, 2)
        ).load_state_dict(state)


class Product(nn.Module):
    """x W₁ W₂ / h with orthogonal weights."""

    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)).Q for _ in "123"]
        self.first, self.second = nn.Parameter(drawn[0]), nn.Parameter(drawn[1])
        self.register_buffer("target", drawn[2] / math.sqrt(WIDTH))
        self.angles = relative_angles(drawn[0] @ drawn[1], drawn[2])

    def loss(self, batch):
        """Half the squared error of orthonormal inputs."""
        return 0.5 * (batch @ (self.first @ self.second / WIDTH - self.target)).square().sum()


def test_training_with_it_is_what_theory_says():
    module, total = Product(), 1.5 * WIDTH**1.5
    optimizer = torch.optim.SGD(layerwise_lr_groups(module, (0.02, 0.98)), lr=total / 2)
    scheduler = LayerBalancedLR(optimizer)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = module.loss(torch.eye(WIDTH, dtype=torch.float64))
        losses.append(2 * float(loss.detach()))
        loss.backward()
        optimizer.step()
        scheduler.step()
    rates = [[0.02 * total, 0.98 * total], *[[total / 2, total / 2]] * 2]
    expected = two_layer_loss(rates, width=WIDTH, angles=module.angles)
    torch.testing.assert_close(torch.tensor(losses, dtype=torch.float64), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("steps", [1, 2])
def test_probed_splits_are_what_theory_says(steps):
    module, total = Product(), 1.5 * WIDTH**1.5
    before = [parameter.detach().clone() for parameter in module.parameters()]
    generator = torch.Generator().manual_seed(1)
    rotated = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator, dtype=torch.float64)).Q
    probes = [
        LossProbe(module, [batch], loss=lambda module, batch: module.loss(batch))
        for batch in (torch.eye(WIDTH, dtype=torch.float64), rotated)
    ]
    found = probe_layer_split(*probes, learning_rate=total / 2, steps=steps)
    pairs = (found.splits * total)[:, None].expand(-1, steps, -1)
    expected = two_layer_loss(pairs, width=WIDTH, angles=module.angles)
    torch.testing.assert_close(found.losses, expected[:, -1] / 2, rtol=1e-12, atol=0)
    assert found.start == pytest.approx(float(expected[0, 0]) / 2, rel=1e-12)
    assert found.equal == pytest.approx(float(found.losses[5]), rel=1e-12)
    assert found.layers == ("first", "second")
    assert sum(found.multipliers) == pytest.approx(2)
    assert found.best == int(found.losses.argmin())
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in module.parameters())
    assert found.figure().axes[0].get_xlabel() == "share of first in the sum of the rates"


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3)
    )


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(12, 1, 4, 4, generator=generator), torch.arange(12) % 3


def test_probe_of_a_network_is_the_step_that_sgd_takes():
    """With its bias in the layer, its norm outside, and an optimizer that turns the gradient."""
    module = network().eval()
    probes = [
        LossProbe(module, [batch(seed)], loss=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
        for seed in (0, 1)
    ]
    splits = [[0.5, 0.3, 0.2], [1, 1, 1]]
    for direction in (None, lambda gradient: row_normalize(gradient.flatten(1)).view_as(gradient)):
        found = probe_layer_split(*probes, learning_rate=0.1, splits=splits, direction=direction)
        for split, loss in zip(found.splits, found.losses, strict=True):
            moved = network().eval()
            nn.functional.cross_entropy(moved(batch(0)[0]), batch(0)[1]).backward()
            for index, layer in enumerate(moved):
                rate = 0.1 * 3 * float(split[(0, 4, 6).index(index)]) if index in (0, 4, 6) else 0.1
                for parameter in layer.parameters():
                    gradient = parameter.grad
                    turned = direction(gradient) if direction and index in (0, 4, 6) and gradient.ndim > 1 else gradient
                    parameter.data -= rate * turned
            assert float(loss) == pytest.approx(
                float(nn.functional.cross_entropy(moved(batch(1)[0]), batch(1)[1]).detach()), rel=1e-5
            )
        assert float(found.losses[1]) == pytest.approx(found.equal, rel=1e-6)
    by_name = probe_layer_split(*probes, learning_rate=0.1, layers=("0.*", "[46].*"), splits=[[1, 1]])
    assert by_name.layers == ("0.*", "[46].*")


def test_layers_and_their_groups():
    module = network()
    assert list(layer_names(module.named_parameters())) == ["0", "4", "6"]
    groups = layerwise_lr_groups(module, (1, 2, 3), lr=0.1, momentum=0.9)
    assert [group.get("lr_multiplier") for group in groups] == [1, 2, 3, None]
    assert [len(group["params"]) for group in groups] == [2, 2, 2, 2]
    assert groups[3]["params"][0] is module[1].weight
    optimizer = torch.optim.SGD(groups)
    LayerBalancedLR(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.1, 0.15, 0.1])

    by_name = layerwise_lr_groups(module, {"0.*": 2.0, "[46].*": 1.0})
    assert [group.get("lr_multiplier") for group in by_name] == [2, 1, 1, None]
    listed = nn.ParameterList([torch.ones(2, 2), torch.ones(2, 2)])
    assert [group["layer"] for group in layerwise_lr_groups(nn.ModuleDict({"w": listed}), (1, 1))] == ["w.0", "w.1"]
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    assert [len(group["params"]) for group in layerwise_lr_groups(tied, (1.0,))] == [2, 1]
    tied[0].requires_grad_(False)
    with pytest.raises(ValueError, match="has one number for each of the 0 layers"):
        layerwise_lr_groups(tied, (1.0,))


@pytest.mark.filterwarnings("ignore:.*no marks.*")
def test_a_matrix_optimizer_has_both_of_its_parts_scaled():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    optimizer = Muon(
        [group | {"algorithm": "adamw" if index == 2 else "matrix"} for index, group in enumerate(_split(module))],
        lr=0.02,
    )
    LayerBalancedLR(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.03, 0.01, 0.02])


def _split(module):
    weights = layerwise_lr_groups(nn.ParameterList([layer.weight for layer in module]), (3, 1))
    return [*weights, {"params": [layer.bias for layer in module]}]


class Trained(L.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))

    def training_step(self, batch, batch_idx):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(layerwise_lr_groups(self, (3, 1)), lr=0.1, momentum=0.9)
        scheduler = LayerBalancedLR(
            optimizer, balance_steps=3, ramp="cosine", ramp_steps=4, schedule=lambda it: StepLR(it, 2, gamma=0.9)
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def test_a_resumed_training_is_bitwise_the_same(tmp_path):
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(
        TensorDataset(torch.randn(24, 4, generator=generator), torch.randn(24, 2, generator=generator)), batch_size=6
    )

    def fit(epochs, checkpoint=None):
        module = Trained()
        trainer = L.Trainer(
            max_epochs=epochs,
            default_root_dir=tmp_path,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[ModelCheckpoint(tmp_path, filename=f"{epochs}", every_n_epochs=1)],
        )
        trainer.fit(module, loader, ckpt_path=checkpoint)
        return module

    whole = fit(2)
    fit(1)
    resumed = fit(2, tmp_path / "1.ckpt")
    for first, second in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(first, second)


def test_wrong_arguments():
    module = network().eval()
    probe = LossProbe(module, [batch(0)], loss=lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]))
    fewer = LossProbe(module, [batch(0)], loss=lambda m, b: m(b[0]).square().mean(), parameters="0.*")
    two = optimizer_of(1.0, 1.0)
    for call, message in (
        (lambda: LayerBalancedLR(two), "`multipliers` are one for each group, got none"),
        (lambda: LayerBalancedLR(two, (1,)), "`multipliers` has one number for each of the 2 groups"),
        (lambda: LayerBalancedLR(two, (1, -1)), "not negative and not all zero"),
        (lambda: LayerBalancedLR(two, (0, 0)), "not negative and not all zero"),
        (lambda: LayerBalancedLR(two, (1, 1), after=(1, None)), "`after` names the same groups"),
        (lambda: LayerBalancedLR(two, (1, 1), balance_steps=-1), "`balance_steps` is not negative"),
        (lambda: LayerBalancedLR(two, (1, 1), ramp="fast"), "`ramp` is one of"),
        (lambda: LayerBalancedLR(two, (1, 1), ramp_steps=2), "`ramp_steps` is not negative and goes with"),
        (lambda: layerwise_lr_groups(module, (1, 2)), "one number for each of the 3 layers"),
        (lambda: layerwise_lr_groups(module, {"x.*": 1.0}), r"match the layers 0, 4, 6, got x\.\*"),
        (lambda: probe_layer_split(probe, probe, learning_rate=0.0), "`learning_rate` is positive"),
        (lambda: probe_layer_split(probe, probe, learning_rate=1.0, steps=0), "`steps` is at least 1"),
        (lambda: probe_layer_split(probe, fewer, learning_rate=1.0), "`heldout` is a probe of the same"),
        (lambda: probe_layer_split(fewer, fewer, learning_rate=1.0), "a split takes two layers"),
        (lambda: probe_layer_split(probe, probe, learning_rate=1.0, layers=("0.*", "9.*")), "left with none"),
        (lambda: probe_layer_split(probe, probe, learning_rate=1.0, splits=[[1, 1]]), "one share for each of the 3"),
        (lambda: probe_layer_split(probe, probe, learning_rate=1.0, splits=[[0, 0, 0]]), "not all zero"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    diverged = probe_layer_split(probe, probe, learning_rate=1e30)
    assert not torch.isfinite(diverged.losses[1:-1]).any()
    with pytest.raises(ValueError, match="no split has a finite"):
        probe_layer_split(probe, probe, learning_rate=1e30, splits=[[1, 1, 1]]).multipliers  # noqa: B018
