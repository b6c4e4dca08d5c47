import copy

import lightning as L
import numpy as np
import pytest
import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F

from lightning_regimes import LossProbe


def mean_square(module, batch):
    inputs, targets = batch
    return F.mse_loss(module(inputs), targets)


def regression_batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 4, generator=generator), torch.randn(16, 2, generator=generator)


def mlp():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))


class Watched(L.LightningModule):
    """Does in `training_step` whatever people do there."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
        self.error = torchmetrics.MeanSquaredError()
        self.collection = torchmetrics.MetricCollection([torchmetrics.MeanAbsoluteError()])
        self.outputs = []
        self.by_name = {"losses": [1.0]}
        self.average = torch.zeros(())
        self.counts = np.zeros(2)
        self.steps = 0
        self.seen = {1}

    def training_step(self, batch, batch_idx):
        prediction = self.net(batch[0])
        loss = F.mse_loss(prediction, batch[1])
        self.error(prediction.detach(), batch[1])
        self.collection.update(prediction.detach(), batch[1])
        self.log("loss", loss, on_epoch=True)
        self.log_dict({"error": self.error})
        for logger in self.loggers:
            logger.experiment.add_scalar("direct", loss.item())
        self.outputs.append(loss.detach())
        self.by_name["losses"].append(loss.item())
        self.by_name["new"] = loss.detach()
        self.average.mul_(0.9).add_(0.1 * loss.detach())
        self.counts += 1
        self.steps += 1
        self.seen.add(self.steps + 10)
        self.attribute_of_the_step = loss
        return {"loss": loss}

    def plain_state(self):
        return {
            "sum": self.error.sum_squared_error.clone(),
            "updates": (self.error._update_count, self.collection["MeanAbsoluteError"]._update_count),
            "outputs": len(self.outputs),
            "by_name": {key: list(value) for key, value in self.by_name.items()},
            "average": self.average.clone(),
            "counts": self.counts.tolist(),
            "steps": self.steps,
            "seen": sorted(self.seen),
            "attribute": hasattr(self, "attribute_of_the_step"),
            "modes": [submodule.training for submodule in self.modules()],
            "buffers": [buffer.clone() for buffer in self.buffers()],
        }


@pytest.mark.parametrize("fails", [False, True])
def test_a_training_step_leaves_no_trace_even_when_it_raises(fails):
    module = Watched()
    module.net[1].eval()
    probe = LossProbe(module, [regression_batch()], mode="train")
    before, attributes = module.plain_state(), set(vars(module))
    rng = torch.get_rng_state()
    if fails:
        module.net[3].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyError("inside")))
        with pytest.raises(KeyError, match="inside"):
            probe.gradient()
    else:
        probe.gradient()
        assert probe.loss_source == "training_step"
    after = module.plain_state()
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert set(vars(module)) == attributes
    assert torch.equal(rng, torch.get_rng_state())
    assert all(parameter.grad is None and parameter.is_leaf for parameter in module.parameters())
    assert all(isinstance(parameter, nn.Parameter) for parameter in module.parameters())


def test_autocast_around_the_probe_is_off_inside():
    module = mlp()
    probe = LossProbe(module, [regression_batch()], loss=mean_square)
    plain = probe.gradient()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(probe.gradient(), plain)


def test_isolation_is_reentrant_and_ends_with_the_outermost():
    module = mlp()
    weight = module[0].weight
    probe = LossProbe(module, [regression_batch()], loss=mean_square)
    with probe.isolated():
        with probe.isolated():
            assert module[0].weight is probe.parameters["0.weight"]
        assert module[0].weight is probe.parameters["0.weight"]
    assert module[0].weight is weight


def test_a_teacher_that_the_step_moves_stays_and_does_not_move_the_loss():
    class Student(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(4, 2)
            self.teacher = copy.deepcopy(self.net).requires_grad_(False)

        def training_step(self, batch):
            with torch.no_grad():
                for slow, fast in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                    slow.mul_(0.9).add_(fast + 1.0)
            return F.mse_loss(self.net(batch[0]), self.teacher(batch[0]))

    module = Student()
    before = copy.deepcopy(module.state_dict())
    probe = LossProbe(module, [regression_batch()])
    with probe.isolated():
        first = probe.loss()
        assert torch.equal(probe.loss(), first)
    assert torch.equal(probe.loss(), first)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


@pytest.mark.parametrize("change", [lambda b: b["x"].mul_(2), lambda b: b.update(x=b["x"] + 1), lambda b: b.pop("z")])
def test_a_step_that_changes_its_batch_changes_a_copy(change):
    def loss(module, batch):
        change(batch)
        return mean_square(module, (batch["x"], batch["y"]))

    x, y = regression_batch()
    batch = {"x": x.clone(), "y": y, "z": torch.zeros(())}
    probe = LossProbe(mlp(), [batch], loss=loss)
    assert torch.equal(probe.loss(), probe.loss())
    assert torch.equal(batch["x"], x)
    assert "z" in batch
