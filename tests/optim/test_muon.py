"""Muon is that of torch, in one object with AdamW and without its restrictions."""

import copy

import pytest
import torch
from torch import nn

from lightning_regimes.optim import Muon, newton_schulz


def parameters():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in ((16, 8), (8, 16), (8, 8), (16, 8))]


def set_gradients(made, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in made:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def group(made, **settings):
    return [{"params": made, "algorithm": "matrix"} | settings]


def difference(first, second):
    return max(float((p - q).detach().abs().max()) for p, q in zip(first, second, strict=True))


@pytest.mark.parametrize("adjust_lr_fn", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_it_is_that_of_torch(adjust_lr_fn, nesterov):
    ours, torchs = parameters(), parameters()
    settings = {"lr": 0.02, "momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1, "adjust_lr_fn": adjust_lr_fn}
    optimizer, expected = Muon(group(ours), ns_dtype="bfloat16", **settings), torch.optim.Muon(torchs, **settings)
    for seed in range(20):
        set_gradients(ours, seed)
        set_gradients(torchs, seed)
        optimizer.step()
        expected.step()
    assert difference(ours, torchs) <= 1e-6


def test_it_goes_on_from_the_state_of_torch():
    ours, torchs = parameters(), parameters()
    expected = torch.optim.Muon(torchs, lr=0.02, weight_decay=0.2, momentum=0.9)
    for seed in range(5):
        set_gradients(torchs, seed)
        expected.step()
    optimizer = Muon(group(ours), ns_dtype=torch.bfloat16)
    optimizer.load_state_dict(copy.deepcopy(expected.state_dict()))
    assert optimizer.param_groups[0]["lr"] == 0.02
    assert optimizer.param_groups[0]["adjust_lr_fn"] == "original"
    for p, q in zip(ours, torchs, strict=True):
        p.data.copy_(q)
    for seed in range(5, 15):
        set_gradients(ours, seed)
        set_gradients(torchs, seed)
        optimizer.step()
        expected.step()
    assert difference(ours, torchs) <= 1e-6


def test_on_a_cpu_products_are_in_single_precision():
    made = parameters()[0]
    set_gradients([made], 0)
    before = made.detach().clone()
    optimizer = Muon(group([made]), lr=1.0, momentum=0.0, weight_decay=0.0, adjust_lr_fn=None)
    optimizer.step()
    torch.testing.assert_close(before - made.detach(), newton_schulz(made.grad), rtol=1e-5, atol=1e-6)
    coarse = newton_schulz(made.grad, dtype=torch.bfloat16)
    assert float((before - made.detach() - coarse).abs().max()) > 1e-3


def test_normalized_neurons_have_equal_rows_and_the_norm_of_the_update():
    made = parameters()[0]
    set_gradients([made], 0)
    made.grad[3] *= 100
    before = made.detach().clone()
    optimizer = Muon(group([made]), lr=1.0, momentum=0.0, weight_decay=0.0, adjust_lr_fn=None, normuon_beta2=0.95)
    optimizer.step()
    change = before - made.detach()
    update = newton_schulz(made.grad)
    rows = change.norm(dim=1)
    # At the first step the running mean is proportional to the squares themselves.
    torch.testing.assert_close(rows, torch.full_like(rows, float(update.norm()) / 4), rtol=1e-4, atol=0)
    mean_squares = optimizer.state[made]["second_momentum_buffer"]
    torch.testing.assert_close(mean_squares, 0.05 * update.square().mean(1, keepdim=True), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ns_steps": 0}, "`ns_steps`"),
        ({"ns_coefficients": (1.0, 2.0)}, "`ns_coefficients`"),
        ({"ns_dtype": "int8"}, "dtype"),
        ({"normuon_beta2": 1.0}, "`normuon_beta2`"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Muon(group(parameters(), **settings))
