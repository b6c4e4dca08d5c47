import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_regimes import LossProbe
from lightning_regimes.landscape.loss_barrier import loss_barrier


class DoubleWell(nn.Module):
    """(x² − 1)² + y², minima at (±1, 0), barrier 1 at the origin."""

    def __init__(self, x=-1.0, y=0.0):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(x, dtype=torch.float64))
        self.y = nn.Parameter(torch.tensor(y, dtype=torch.float64))

    def loss(self, batch):
        return (self.x**2 - 1) ** 2 + self.y**2


def well_loss(module, batch):
    return module.loss(batch)


def batch_norm_net(seed):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).double()
    for _ in range(20):
        net(torch.randn(32, 5, dtype=torch.float64) * (1 + seed))
    return net


def batches(count=3, size=16):
    generator = torch.Generator().manual_seed(7)
    return [
        (
            torch.randn(size + index, 5, dtype=torch.float64, generator=generator),
            torch.randint(3, (size + index,), generator=generator),
        )
        for index in range(count)
    ]


def cross_entropy(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1])


def interpolated(first, second, alpha):
    net = copy.deepcopy(first)
    with torch.no_grad():
        for own, other in zip(net.parameters(), second.parameters(), strict=True):
            own.lerp_(other, alpha)
    return net.eval()


def mean_loss(net, data):
    total = sum(len(labels) for _, labels in data)
    return sum(len(batch[1]) / total * cross_entropy(net, batch).item() for batch in data)


@pytest.mark.parametrize("form", ["module", "state", "vector"])
def test_double_well_has_its_closed_form_barrier(form):
    other = DoubleWell(x=1.0)
    given = {"module": other, "state": other.state_dict(), "vector": torch.tensor([1.0, 0.0])}[form]
    result = loss_barrier(LossProbe(DoubleWell(), [None], loss=well_loss), given)
    assert result.value == 1.0
    assert result.position == 0.5
    assert result.losses == pytest.approx(((1 - 2 * np.linspace(0, 1, 21)) ** 2 - 1) ** 2, abs=1e-15)
    assert (result.start_loss, result.end_loss) == (0.0, 0.0)


def test_barrier_is_measured_from_the_mean_of_unequal_ends():
    result = loss_barrier(LossProbe(DoubleWell(), [None], loss=well_loss), DoubleWell(x=2.0), points=301)
    # On the line from −1 to 2 the end, with the loss 9, is higher than the maximum 1 between the wells.
    assert result.value == 9.0 - 4.5
    assert result.position == 1.0


def test_metric_replaces_the_loss_and_may_be_a_plain_number():
    probe = LossProbe(DoubleWell(), [None], loss=well_loss)
    result = loss_barrier(probe, DoubleWell(x=1.0), metric=lambda module, batch: 100 * int(abs(module.x.item()) < 0.5))
    assert result.value == 100.0
    assert probe.loss().item() == 0.0


def test_nothing_in_module_or_generators_changes():
    net, other = batch_norm_net(0), batch_norm_net(1)
    net[1].train()
    before, modes = copy.deepcopy(net.state_dict()), [module.training for module in net.modules()]
    torch.manual_seed(3)
    state = torch.get_rng_state(), random.getstate()
    probe = LossProbe(net, batches(), loss=cross_entropy)
    home = probe.loss()
    for treatment in ("recompute", "interpolate", "frozen"):
        loss_barrier(probe, other, points=3, batch_norm=treatment)
    assert torch.equal(probe.loss(), home)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state[0])
    assert random.getstate() == state[1]
    assert net[1].momentum == 0.1
    assert all(parameter.grad is None for parameter in net.parameters())


def test_frozen_statistics_are_those_of_the_probe():
    net, other, data = batch_norm_net(0), batch_norm_net(1), batches()
    result = loss_barrier(LossProbe(net, data, loss=cross_entropy), other, points=5, batch_norm="frozen")
    expected = [mean_loss(interpolated(net, other, alpha), data) for alpha in result.positions]
    assert result.losses == pytest.approx(expected, rel=1e-12)


def test_interpolated_statistics_reach_those_of_the_other_end():
    net, other, data = batch_norm_net(0), batch_norm_net(1), batches()
    result = loss_barrier(LossProbe(net, data, loss=cross_entropy), other, points=5, batch_norm="interpolate")
    assert result.start_loss == pytest.approx(mean_loss(net.eval(), data), rel=1e-12)
    assert result.end_loss == pytest.approx(mean_loss(other.eval(), data), rel=1e-12)
    middle = interpolated(net, other, 0.5)
    middle[1].running_mean.copy_((net[1].running_mean + other[1].running_mean) / 2)
    middle[1].running_var.copy_((net[1].running_var + other[1].running_var) / 2)
    assert result.losses[2] == pytest.approx(mean_loss(middle, data), rel=1e-12)


def test_recomputed_statistics_are_those_of_a_pass_in_training_mode():
    net, other = batch_norm_net(0), batch_norm_net(1)
    data = [(inputs[:16], labels[:16]) for inputs, labels in batches()]
    result = loss_barrier(LossProbe(net, data, loss=cross_entropy), other, points=5)
    for alpha, loss in zip(result.positions, result.losses, strict=True):
        reference = interpolated(net, other, alpha)
        torch.optim.swa_utils.update_bn([inputs for inputs, _ in data], reference)
        assert loss == pytest.approx(mean_loss(reference.eval(), data), rel=1e-12)


def test_treatments_agree_without_running_statistics():
    data = batches()
    nets = [nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double() for _ in range(2)]
    probe = LossProbe(nets[0], data, loss=cross_entropy)
    results = [loss_barrier(probe, nets[1], batch_norm=kind).losses for kind in ("recompute", "interpolate", "frozen")]
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


def test_training_mode_needs_no_running_statistics():
    net, other, data = batch_norm_net(0), batch_norm_net(1), batches()
    probe = LossProbe(net, data, loss=cross_entropy, mode="train")
    results = [loss_barrier(probe, other, points=3, batch_norm=kind).losses for kind in ("recompute", "frozen")]
    assert np.array_equal(results[0], results[1])


def test_tied_and_complex_parameters_are_moved_once():
    class Tied(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.one = nn.Parameter(torch.tensor([value], dtype=torch.complex128))
            self.two = self.one

    first, second = Tied(1 + 1j), Tied(-1 - 1j)
    probe = LossProbe(first, [None], loss=lambda module, batch: (module.one.abs() * module.two.abs()).sum())
    result = loss_barrier(probe, second, points=3)
    assert result.losses == pytest.approx([2.0, 0.0, 2.0])
    assert result.value == 0.0


def test_nan_on_the_way_is_left_out_with_a_warning():
    def loss(module, batch):
        return torch.where(module.x.abs() < 0.05, torch.nan, module.loss(batch))

    with pytest.warns(UserWarning, match=r"NaN on the path at 0\.5"):
        result = loss_barrier(LossProbe(DoubleWell(), [None], loss=loss), DoubleWell(x=1.0))
    assert np.isnan(result.losses[10])
    assert result.value == pytest.approx((0.1**2 - 1) ** 2)


def test_figure_shows_the_path():
    figure = loss_barrier(LossProbe(DoubleWell(), [None], loss=well_loss), DoubleWell(x=1.0)).figure()
    line = figure.axes[0].lines[0]
    assert max(line.get_ydata()) == 1.0


def test_wrong_input_is_named():
    net, data = batch_norm_net(0), batches()
    probe = LossProbe(net, data, loss=cross_entropy)
    with pytest.raises(ValueError, match=r"shape \(91,\), got \(3,\)"):
        loss_barrier(probe, torch.zeros(3))
    with pytest.raises(TypeError, match="a state dict or a module, got int"):
        loss_barrier(probe, 3)
    with pytest.raises(ValueError, match="`points` is at least 3"):
        loss_barrier(probe, net, points=2)
    with pytest.raises(ValueError, match="`batch_norm` is one of"):
        loss_barrier(probe, net, batch_norm="none")
    for other in (probe.point(), dict(net.named_parameters())):
        with pytest.raises(ValueError, match="`other` brings no running statistics"):
            loss_barrier(probe, other, batch_norm="interpolate")
    with pytest.raises(TypeError, match="`metric` is a callable"):
        loss_barrier(probe, net, metric=3)
    state = net.state_dict()
    with pytest.raises(ValueError, match=r"`other` lacks '3\.bias'"):
        loss_barrier(probe, {name: tensor for name, tensor in state.items() if name != "3.bias"})
    with pytest.raises(ValueError, match=r"no counterpart in the probed module for '4\.weight'"):
        loss_barrier(probe, {**state, "4.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"'0\.weight' of shape \(9, 5\), the probed module \(8, 5\)"):
        loss_barrier(probe, {**state, "0.weight": torch.zeros(9, 5)})


def test_parameters_that_the_probe_holds_fixed_must_agree():
    net, other, data = batch_norm_net(0), batch_norm_net(1), batches()
    probe = LossProbe(net, data, loss=cross_entropy, parameters="3.*")
    with pytest.raises(ValueError, match=r"differs in '0\.weight', which the probe holds fixed"):
        loss_barrier(probe, other)
    same = copy.deepcopy(net)
    same[3].load_state_dict(other[3].state_dict())
    assert loss_barrier(probe, same, points=3).end_loss != loss_barrier(probe, same, points=3).start_loss
