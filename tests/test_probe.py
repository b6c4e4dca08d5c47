import copy
import random

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel, ManualOptimBoringModel
from torch import nn
from torch.nn import functional as F

from lightning_regimes import LossProbe, ProbeError
from lightning_regimes.batches import map_tensors, num_samples


def mean_square(module, batch):
    inputs, targets = batch
    return F.mse_loss(module(inputs), targets)


def regression_batch(size=16, features=4, outputs=2, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(size, features, generator=generator, dtype=dtype),
        torch.randn(size, outputs, generator=generator, dtype=dtype),
    )


def in_double(module):
    """A copy in float64, complex parameters too."""
    module = copy.deepcopy(module).double().eval()
    for parameter in module.parameters():
        if parameter.is_complex():
            parameter.data = parameter.data.to(torch.complex128)
    return module


def gradient_by_backward(module, batches, loss=mean_square):
    """The gradient of the mean over all samples, by ordinary backward passes on a copy in float64."""
    module = in_double(module)
    total = sum(num_samples(batch) for batch in batches)
    for batch in batches:
        doubled = map_tensors(batch, lambda t: t.double() if t.is_floating_point() else t)
        (loss(module, doubled) * num_samples(batch) / total).backward()
    flat = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            flat.append(torch.view_as_real(grad).flatten() if grad.is_complex() else grad.flatten())
    return torch.cat(flat)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 4, bias=False)
        self.decoder = nn.Linear(4, 4, bias=False)
        self.decoder.weight = self.encoder.weight
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.decoder(torch.tanh(self.encoder(x)))))


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))

    def forward(self, x):
        return torch.fft.irfft(torch.fft.rfft(x)[:, :, None] * self.weight, n=2, dim=1).sum(-1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 3, batch_first=True)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(self.lstm(x[..., None])[0][:, -1])


def frozen_and_unused():
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    module[0].bias.requires_grad_(False)
    module.register_parameter("unused", nn.Parameter(torch.ones(3)))
    return module


MODULES = {
    "mlp": lambda: nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)),
    "dropout_and_batch_norm": lambda: nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2)
    ),
    "frozen_and_unused": frozen_and_unused,
    "tied": Tied,
    "complex": Spectral,
    "recurrent": Recurrent,
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)),
    "attention": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.TransformerEncoderLayer(2, 2, 8, batch_first=True), nn.Flatten(), nn.Linear(4, 2)
    ),
    "compiled": lambda: nn.Sequential(torch.compile(nn.Linear(4, 4), backend="eager"), nn.Linear(4, 2)),
}


@pytest.mark.parametrize("name", MODULES)
def test_loss_and_gradient_equal_backward_in_float64(name):
    torch.manual_seed(0)
    module = MODULES[name]()
    batches = [regression_batch(250), regression_batch(6, seed=1)]
    probe = LossProbe(module, batches, loss=mean_square)
    truth = gradient_by_backward(module, batches)
    assert probe.num_parameters == truth.numel()
    assert probe.weights == pytest.approx((250 / 256, 6 / 256))
    gradient = probe.gradient()
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient.double(), truth, rtol=1e-4, atol=1e-6)
    union = (torch.cat([batches[0][0], batches[1][0]]), torch.cat([batches[0][1], batches[1][1]]))
    with torch.no_grad():
        expected = mean_square(in_double(module), map_tensors(union, torch.Tensor.double))
    assert probe.loss().item() == pytest.approx(expected.item(), rel=1e-6)


def test_float64_on_request_equals_backward_to_rounding():
    torch.manual_seed(0)
    module = MODULES["mlp"]()
    probe = LossProbe(module, [regression_batch()], loss=mean_square, dtype=torch.float64)
    torch.testing.assert_close(probe.gradient(), gradient_by_backward(module, [regression_batch()]), rtol=1e-12, atol=0)
    assert torch.get_default_dtype() is torch.float32


def test_half_precision_modules_are_probed_in_float32():
    torch.manual_seed(0)
    module = MODULES["mlp"]().bfloat16()
    batch = map_tensors(regression_batch(), torch.Tensor.bfloat16)
    probe = LossProbe(module, [batch], loss=mean_square)
    torch.testing.assert_close(probe.gradient().double(), gradient_by_backward(module, [batch]), rtol=1e-4, atol=1e-6)


def test_train_mode_uses_batch_statistics_without_dropout_and_leaves_the_running_ones():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.9), nn.Linear(8, 2))
    before = copy.deepcopy(module.state_dict())
    batch = regression_batch()
    probe = LossProbe(module, [batch], loss=mean_square, mode="train")
    hidden = module[0](batch[0])
    normalized = (hidden - hidden.mean(0)) / (hidden.var(0, unbiased=False) + 1e-5).sqrt()
    assert probe.loss().item() == pytest.approx(F.mse_loss(module[3](normalized), batch[1]).item(), rel=1e-5)
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    assert all(submodule.training for submodule in module.modules())


def test_the_probe_stays_where_it_was_made():
    module = MODULES["mlp"]()
    probe = LossProbe(module, [regression_batch()], loss=mean_square)
    before = probe.loss()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1.0)
    assert torch.equal(probe.loss(), before)


def test_parameters_are_selected_by_pattern_and_by_callable():
    module = MODULES["mlp"]()
    batch = [regression_batch()]
    assert list(LossProbe(module, batch, loss=mean_square, parameters="2.*").parameters) == ["2.weight", "2.bias"]
    matrices = LossProbe(module, batch, loss=mean_square, parameters=lambda name, parameter: parameter.ndim == 2)
    assert list(matrices.parameters) == ["0.weight", "2.weight"]
    whole = LossProbe(module, batch, loss=mean_square)
    parts = dict(zip(whole.parameters, whole.unflatten(whole.gradient()), strict=True))
    torch.testing.assert_close(matrices.unflatten(matrices.gradient())[1], parts["2.weight"], rtol=0, atol=0)


def test_flatten_and_unflatten_are_inverse():
    probe = LossProbe(Spectral(), [regression_batch()], loss=mean_square)
    vector = torch.randn(probe.num_parameters)
    assert torch.equal(probe.flatten(probe.unflatten(vector)), vector)
    assert probe.parameters["weight"].shape == (3, 2, 2)


def test_stochastic_losses_are_functions_of_the_parameters():
    def noisy(module, batch):
        return mean_square(module, batch) * (1 + torch.rand(()) + np.random.rand() + random.random())

    probe = LossProbe(MODULES["mlp"](), [regression_batch(), regression_batch(seed=1)], loss=noisy)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    assert torch.equal(probe.loss(), probe.loss())
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()


def test_inference_tensors_and_inference_mode_do_not_stop_the_probe():
    module = MODULES["mlp"]()
    with torch.inference_mode():
        batch = map_tensors(regression_batch(), lambda tensor: tensor * 1.0)
        probe = LossProbe(module, [batch], loss=mean_square)
        gradient = probe.gradient()
    torch.testing.assert_close(
        gradient.double(), gradient_by_backward(module, [regression_batch()]), rtol=1e-4, atol=1e-6
    )


def test_diagnostic_loss_goes_before_training_step_and_loss_before_both():
    class Both(BoringModel):
        def diagnostic_loss(self, batch):
            return self.layer(batch).square().mean() + 7.0

    batch = torch.randn(3, 32)
    assert LossProbe(Both(), [batch]).loss_source == "diagnostic_loss"
    assert LossProbe(Both(), [batch]).loss() > 7
    assert LossProbe(Both(), [batch], loss=lambda m, b: m.layer(b).mean()).loss_source == "loss"


@pytest.mark.parametrize(
    "step",
    [
        lambda module, *args: module.loss_of(args[0]),
        lambda module, batch, *args: module.loss_of(batch),
        lambda module, batch, index, extra=None: module.loss_of(batch),
        lambda module, batch, index, /: module.loss_of(batch),
        lambda module, batch: module.loss_of(batch),
        lambda module, batch, batch_idx: module.loss_of(batch) + batch_idx,
    ],
)
def test_training_steps_of_every_signature(step):
    class Module(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = MODULES["mlp"]()

        def loss_of(self, batch):
            return mean_square(self.net, batch)

    Module.training_step = step
    module = Module()
    expected = mean_square(module.net, regression_batch()).item()
    assert LossProbe(module, [regression_batch()]).loss().item() == pytest.approx(expected, rel=1e-6)


def stale_list(module):
    weights = [module[0].weight]
    return lambda m, b: F.linear(b[0], weights[0]).square().mean() + mean_square(m, b)


def stale_transpose(module):
    transposed = module[0].weight.T
    return lambda m, b: (b[0] @ transposed).square().mean() + mean_square(m, b)


@pytest.mark.parametrize("make_loss", [stale_list, stale_transpose])
def test_parameters_used_behind_the_back_of_the_module_are_refused(make_loss):
    module = MODULES["mlp"]()
    probe = LossProbe(module, [regression_batch()], loss=make_loss(module))
    with pytest.raises(ProbeError, match="through a reference beside the module's attribute"):
        probe.gradient()


def test_a_loss_that_clamps_its_parameters_is_refused():
    def loss(module, batch):
        with torch.no_grad():
            module[0].weight.clamp_(-0.01, 0.01)
        return mean_square(module, batch)

    module = MODULES["mlp"]()
    before = module[0].weight.clone()
    with pytest.raises(ProbeError, match=r"changes the parameter '0\.weight' in place"):
        LossProbe(module, [regression_batch()], loss=loss).loss()
    assert torch.equal(module[0].weight, before)


def test_scripted_modules_are_refused_before_anything_is_touched():
    module = nn.Sequential(torch.jit.trace(nn.Linear(4, 2), torch.zeros(1, 4)))
    with pytest.raises(ProbeError, match=r"submodule '0' is compiled by torch.jit"):
        LossProbe(module, [regression_batch()], loss=mean_square).loss()
    assert module.training


class NoLoss(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def training_step(self, batch):
        return None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: LossProbe(ManualOptimBoringModel(), [torch.randn(2, 32)]),
            ProbeError,
            "optimizes manually.*diagnostic_loss",
        ),
        (
            lambda: LossProbe(nn.Linear(2, 2), [torch.randn(2, 2)]),
            TypeError,
            "neither `diagnostic_loss` nor `training_step`",
        ),
        (lambda: LossProbe(BoringModel(), regression_batch()), ValueError, r"put it into a list: `\[batch\]`"),
        (lambda: LossProbe(BoringModel(), []), ValueError, "`batches`.*empty"),
        (lambda: LossProbe(BoringModel(), torch.randn(2, 32)), ValueError, "`batches`.*Tensor"),
        (lambda: LossProbe(nn.ReLU(), [1], loss=mean_square), ValueError, "no parameter that requires a gradient"),
        (lambda: LossProbe(BoringModel(), [1], parameters="head.*"), ValueError, "matches `parameters`='head"),
        (lambda: LossProbe(BoringModel(), [1], mode="test"), ValueError, "`mode`"),
        (lambda: LossProbe(BoringModel(), [1], dtype=torch.float16), ValueError, "`dtype`"),
        (lambda: LossProbe(BoringModel(), [1], weights=[1.0, 2.0]), ValueError, "2 numbers for 1 batches"),
        (lambda: LossProbe(BoringModel(), [1], weights=[0.0]), ValueError, "not all zero"),
        (lambda: LossProbe(BoringModel(), [1], loss="mse"), TypeError, "`loss` is a callable"),
        (lambda: LossProbe(nn.LazyLinear(2), [1], loss=mean_square), ProbeError, "no shape yet"),
        (lambda: LossProbe(nn.Linear(2, 2, device="meta"), [1], loss=mean_square), ProbeError, "meta device"),
        (lambda: LossProbe(NoLoss(), [torch.randn(2, 2)]).loss(), ProbeError, "returned NoneType"),
    ],
)
def test_what_cannot_be_probed_is_refused_with_the_remedy(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda m, b: m(b[0]), "must be one real number"),
        (lambda m, b: mean_square(m, b).detach(), "has no graph"),
        (lambda m, b: torch.ones(2, requires_grad=True).sum(), "does not depend on any"),
    ],
)
def test_losses_that_cannot_be_differentiated_are_refused(loss, message):
    with pytest.raises(ProbeError, match=message):
        LossProbe(MODULES["mlp"](), [regression_batch()], loss=loss).gradient()


def test_replaced_buffers_are_those_of_the_loss_for_the_while():
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    batch = regression_batch()
    probe = LossProbe(module, [batch], loss=mean_square)
    before = probe.loss()
    other = copy.deepcopy(module).eval()
    other[1].running_mean += 2.0
    with probe.replaced({"1.running_mean": torch.full((3,), 2.0)}):
        assert float(probe.loss()) == pytest.approx(mean_square(other, batch).item(), rel=1e-6)
        assert probe.loss() != before
    assert probe.loss() == before
    assert not module[1].running_mean.any()
    assert set(probe.fixed_tensors) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}


def test_a_bare_value_is_that_of_a_batch_unless_the_loss_leaves_something():
    torch.manual_seed(0)
    probe = LossProbe(nn.BatchNorm1d(4), [regression_batch(outputs=4)], loss=mean_square)
    with probe.isolated(), torch.no_grad():
        assert torch.equal(probe.bare_value(probe.batch(0)), probe.batch_value(0))
        assert probe.is_intact()
        probe.module.running_mean += 1
        assert not probe.is_intact()
        probe.batch_value(0)
        assert probe.is_intact()
        probe.module.running_mean = torch.zeros(4)
        assert not probe.is_intact()


def test_generators_are_seeded_as_by_hand():
    def noise(module, batch):
        return module(batch).sum() + torch.rand(()) + float(np.random.rand()) + random.random()

    probe = LossProbe(nn.Linear(2, 1), [torch.zeros(1, 2)], loss=noise, seed=7)
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    expected = noise(probe.module, torch.zeros(1, 2)).item()
    assert float(probe.loss()) == pytest.approx(expected)


def test_a_parameter_beside_the_registry_is_refused_where_only_the_value_is_asked_for():
    module = MODULES["mlp"]()
    stale = [module[0].weight]
    probe = LossProbe(module, [regression_batch()], loss=lambda m, b: mean_square(m, b) + stale[0].sum())
    with pytest.raises(ProbeError, match="through a reference beside"):
        probe.loss()
