"""HTMuon against the singular value decomposition in float64."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightning_regimes.optim import HTMuon, Muon, newton_schulz
from lightning_regimes.spectral import power_expansion

SHAPES = [(12, 5), (5, 12), (8, 8)]


def parameter(rows, columns, *, seed=0):
    generator = torch.Generator().manual_seed(seed)
    made = nn.Parameter(torch.randn(rows, columns, generator=generator))
    made.grad = torch.randn(rows, columns, generator=generator)
    return made


def group(*parameters, **options):
    return [{"params": list(parameters), "algorithm": "matrix"} | options]


def change(made, steps=1, **options):
    optimizer = HTMuon(group(made), **{"lr": 1.0, "weight_decay": 0.0, "adjust_lr_fn": None, "momentum": 0.0} | options)
    for _ in range(steps):
        before = made.detach().clone()
        optimizer.step()
    return before - made.detach()


def power_of(matrix, power):
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return left * values**power @ right


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("power", [0.0, 0.125, 0.5, 1.0])
@pytest.mark.parametrize(("method", "tolerance"), [("eigh", 1e-4), ("svd", 1e-4), ("polynomial", 0.03)])
def test_the_update_is_the_power(shape, power, method, tolerance):
    made = parameter(*shape)
    expected = power_of(made.grad, power)
    found = change(made, power=power, method=method)
    assert float((found - expected).norm() / expected.norm()) <= tolerance


@pytest.mark.parametrize("shape", SHAPES)
def test_power_zero_is_the_polar_factor(shape):
    update = change(parameter(*shape), power=0.0).double()
    gram = update @ update.T if shape[0] <= shape[1] else update.T @ update
    assert float((gram - torch.eye(min(shape))).norm()) / min(shape) ** 0.5 <= 1e-5


def test_power_one_is_momentum():
    ours, torchs = parameter(6, 4), parameter(6, 4)
    optimizer = HTMuon(group(ours), lr=0.1, power=1.0, weight_decay=0.0, momentum=0.9, adjust_lr_fn=None)
    expected = torch.optim.SGD([torchs], lr=0.1 * (1 - 0.9), momentum=0.9, nesterov=True)
    for seed in range(5):
        ours.grad = parameter(6, 4, seed=seed).grad
        torchs.grad = ours.grad.clone()
        optimizer.step()
        expected.step()
    torch.testing.assert_close(ours, torchs, rtol=1e-6, atol=1e-6)


def test_size_is_normalized():
    power = 0.125
    for scale in (1e-6, 1.0, 1e3):
        made = parameter(12, 5)
        made.grad.mul_(scale)
        exact = made.grad.double()
        update = change(made, power=power, normalize="schatten").double()
        values = torch.linalg.svdvals(update)
        assert float((values ** (1 + 1 / power)).sum() ** (power / (1 + power))) == pytest.approx(1, rel=1e-4)
        dual = float((torch.linalg.svdvals(exact) ** (1 + power)).sum() ** (1 / (1 + power)))
        assert float((exact * update).sum()) == pytest.approx(dual, rel=1e-4)
        made = parameter(12, 5)
        made.grad.mul_(scale)
        assert float(change(made, power=power, normalize="rms").norm()) == pytest.approx(5**0.5, rel=1e-5)


def test_between_two_powers_there_are_steps_of_muon():
    made = parameter(8, 6)
    gradient = made.grad
    power, orthogonal = power_of(gradient, 0.25), newton_schulz(gradient)
    optimizer = HTMuon(group(made), lr=1.0, weight_decay=0.0, adjust_lr_fn=None, momentum=0.0, power=0.25, interval=3)
    for step in range(7):
        before = made.detach().clone()
        optimizer.step()
        expected = orthogonal if step % 3 else power.float()
        torch.testing.assert_close(before - made.detach(), expected, rtol=1e-3, atol=1e-4)
    assert optimizer.state_dict()["param_groups"][0]["num_steps"] == 7


def test_goes_on_from_the_state_of_muon():
    ours, torchs = parameter(8, 6), parameter(8, 6)
    muon = torch.optim.Muon([torchs], lr=0.01)
    muon.step()
    optimizer = HTMuon(group(ours))
    optimizer.load_state_dict(muon.state_dict())
    assert torch.equal(optimizer.state[ours]["momentum_buffer"], muon.state[torchs]["momentum_buffer"])
    optimizer.step()
    own = Muon(group(torchs))
    own.load_state_dict(optimizer.state_dict())
    own.step()


@pytest.mark.parametrize("shape", SHAPES)
def test_streaming_converges_while_the_momentum_stays(shape):
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=torch.Generator().manual_seed(1)), False)
    made = parameter(*shape)
    made.grad = left * 0.5 ** torch.arange(min(shape)) @ right
    expected = power_of(made.grad, 0.125)
    errors = [
        float((change(made, steps, power=0.125, method="streaming") - expected).norm() / expected.norm())
        for steps in (1, 5, 25)
    ]
    assert errors[0] > 0.1
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] <= 1e-4


@given(seed=st.integers(0, 1000), power=st.floats(0, 1), shape=st.sampled_from(SHAPES))
def test_streaming_descends_and_has_the_right_size_however_far_the_vectors_lag(seed, power, shape):
    made = parameter(*shape, seed=seed)
    optimizer = HTMuon(group(made), lr=1.0, weight_decay=0.0, adjust_lr_fn=None, momentum=0.0, nesterov=False)
    optimizer.param_groups[0].update(power=power, method="streaming")
    for step in range(2):
        made.grad = parameter(*shape, seed=seed + step).grad
        before = made.detach().double()
        optimizer.step()
        update = before - made.detach().double()
    vectors = optimizer.state[made]["singular_vectors_0"].double()
    matrix = made.grad.double()
    lengths = ((matrix if shape[0] >= shape[1] else matrix.T) @ vectors).norm(dim=0)
    torch.testing.assert_close((matrix * update).sum(), (lengths ** (1 + power)).sum(), rtol=1e-4, atol=0)
    torch.testing.assert_close(update.square().sum(), (lengths ** (2 * power)).sum(), rtol=1e-4, atol=0)


def test_streaming_keeps_the_vectors_of_each_block_in_checkpoints():
    def built():
        made = parameter(12, 5)
        return made, HTMuon([{"params": [made], "algorithm": "matrix", "split_sizes": [8, 4]}], method="streaming")

    (straight, first), (resumed, second) = built(), built()
    first.step()
    # Otherwise the two would share their momentum, and both write to it.
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    with torch.no_grad():
        resumed.copy_(straight)
    assert [first.state[straight][f"singular_vectors_{block}"].shape for block in range(2)] == [(5, 5), (4, 4)]
    for optimizer in (first, second):
        optimizer.step()
    assert torch.equal(straight, resumed)


@pytest.mark.parametrize("power", [0.0, 0.125, 0.5])
def test_the_polynomial_is_as_long_as_the_spectrum_of_the_momentum_asks_for(power):
    errors, products = [], []
    for values in (torch.ones(24), torch.logspace(0, -2, 24), torch.logspace(0, -4.5, 24)):
        made = parameter(24, 40)
        left, _, right = torch.linalg.svd(made.grad.double(), full_matrices=False)
        made.grad = (left * values.double() @ right).float()
        optimizer = HTMuon(
            group(made), 1.0, weight_decay=0.0, adjust_lr_fn=None, momentum=0.0, power=power,
            method="polynomial", lower="auto",
        )  # fmt: skip
        before = made.detach().clone()
        optimizer.step()
        update, expected = before - made.detach(), power_of(made.grad, power)
        errors.append(float((update - expected).norm() / expected.norm()))
        chosen = optimizer.state[made]["polynomial_lower"]
        products.append(power_expansion(power, lower=chosen).num_matmuls((24, 24)))
    assert max(errors) <= 0.03
    assert products == sorted(products)
    assert products[0] < products[-1]


def test_what_the_polynomial_resolves_is_looked_up_every_hundredth_step_and_kept_in_checkpoints():
    def trained(steps, saved=None):
        made = parameter(8, 8)
        optimizer = HTMuon(group(made), 1e-2, method="polynomial", lower="auto")
        if saved is not None:
            made.data.copy_(saved[0])
            optimizer.load_state_dict(saved[1])
        for _ in range(steps):
            made.grad = made.detach() ** 3
            optimizer.step()
        return made, optimizer

    made, optimizer = trained(7)
    optimizer.state[made]["polynomial_lower"] = 0.1
    saved = (made.detach().clone(), copy.deepcopy(optimizer.state_dict()))
    for _ in range(93):
        made.grad = made.detach() ** 3
        optimizer.step()
    assert optimizer.state[made]["polynomial_lower"] == 0.1
    resumed, other = trained(93, saved)
    assert torch.equal(made, resumed)
    made.grad = resumed.grad = made.detach() ** 3
    optimizer.step()
    other.step()
    assert optimizer.state[made]["polynomial_lower"] == other.state[resumed]["polynomial_lower"] < 0.1
    assert torch.equal(made, resumed)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"power": -0.1}, "`power`"),
        ({"power": 1.1}, "`power`"),
        ({"interval": 0}, "`interval`"),
        ({"normalize": "most"}, "`normalize`"),
        ({"method": "qr"}, "`method`"),
        ({"dtype": "float7"}, "dtype"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HTMuon(group(parameter(2, 2)), **options)
