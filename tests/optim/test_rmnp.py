"""RMNP against its formula."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_regimes.optim import RMNP


def group(*parameters, **options):
    return [{"params": list(parameters), "algorithm": "matrix"} | options]


def parameter(rows, columns, *, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return nn.Parameter(torch.randn(rows, columns, generator=generator, dtype=dtype))


def relative(found, expected):
    return float((found.detach() - expected).norm() / expected.norm())


@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (1, 7)])
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("power", [0.0, 0.25])
def test_steps_are_the_formula(shape, nesterov, power):
    lr, decay, mu = 0.05, 0.1, 0.9
    made = parameter(*shape)
    weight, momentum = made.detach().double(), torch.zeros(shape, dtype=torch.float64)
    optimizer = RMNP(group(made), lr=lr, weight_decay=decay, momentum=mu, nesterov=nesterov, power=power)
    for seed in range(1, 9):
        made.grad = parameter(*shape, seed=seed).detach()
        optimizer.step()
        gradient = made.grad.double()
        momentum = mu * momentum + (1 - mu) * gradient
        carrier = mu * momentum + (1 - mu) * gradient if nesterov else momentum
        rows = carrier / carrier.norm(dim=1, keepdim=True) ** (1 - power)
        weight = (1 - lr * decay) * weight - lr * max(1.0, math.sqrt(shape[0] / shape[1])) * rows
    assert relative(made, weight) <= 1e-6


def test_it_is_the_form_with_classical_momentum():
    lr, mu = 0.05, 0.95
    made = parameter(6, 6)
    weight, momentum = made.detach().double(), torch.zeros(6, 6, dtype=torch.float64)
    optimizer = RMNP(group(made), lr=lr, weight_decay=0.0, momentum=mu)
    for seed in range(1, 9):
        made.grad = parameter(6, 6, seed=seed).detach()
        optimizer.step()
        momentum = mu * momentum + made.grad
        carrier = made.grad + mu * momentum
        weight = weight - lr * nn.functional.normalize(carrier, dim=-1)
    assert relative(made, weight) <= 1e-6


def change(made, **options):
    before = made.detach().clone()
    RMNP(group(made), lr=1.0, weight_decay=0.0, adjust_lr_fn=None, **options).step()
    return before - made.detach()


def test_rows_have_norm_one_and_a_row_of_zeros_stays():
    made = nn.Parameter(torch.zeros(9, 5))
    made.grad = parameter(9, 5).detach() * torch.logspace(-8, 8, 9).unsqueeze(1)
    made.grad[4] = 0
    norms = change(made).norm(dim=1)
    assert float(norms[4]) == 0
    assert float((norms[torch.arange(9) != 4] - 1).abs().max()) <= 1e-6


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=6, max_size=6), st.integers(0, 1000))
def test_the_scale_of_a_row_of_the_gradient_does_not_matter(exponents, seed):
    plain, scaled = (nn.Parameter(torch.zeros(6, 4)) for _ in range(2))
    plain.grad = parameter(6, 4, seed=seed).detach()
    scaled.grad = plain.grad * torch.tensor(exponents).exp2().unsqueeze(1)
    assert float((change(plain) - change(scaled)).abs().max()) <= 1e-6


def test_with_power_one_it_is_gradient_descent_with_momentum():
    ours, torchs = parameter(6, 4), parameter(6, 4)
    optimizer = RMNP(group(ours), lr=0.1, power=1.0, weight_decay=0.0, momentum=0.9, adjust_lr_fn=None)
    expected = torch.optim.SGD([torchs], lr=0.1 * (1 - 0.9), momentum=0.9, nesterov=True)
    for seed in range(1, 6):
        ours.grad = parameter(6, 4, seed=seed).detach()
        torchs.grad = ours.grad.clone()
        optimizer.step()
        expected.step()
    assert relative(ours, torchs.detach()) <= 1e-6


def test_blocks_of_rows_change_nothing():
    fused, plain = parameter(12, 4), parameter(12, 4)
    fused.grad = plain.grad = parameter(12, 4, seed=1).detach()
    RMNP(group(fused, split_sizes=[6, 3, 3])).step()
    RMNP(group(plain)).step()
    assert torch.equal(fused, plain)


def test_the_update_that_is_never_formed_is_that_of_update():
    made = parameter(7, 3)
    made.grad = parameter(7, 3, seed=1).detach()
    optimizer = RMNP(group(made))
    expected = optimizer.update(made.grad.unsqueeze(0), optimizer.param_groups[0])[0]
    torch.testing.assert_close(change(made), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("options", "message"), [({"power": 1.5}, "`power`"), ({"eps": 0.0}, "`eps`")])
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        RMNP(group(parameter(2, 2)), **options)
