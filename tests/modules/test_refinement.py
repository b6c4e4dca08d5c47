"""The parts of a refinement on linear maps, for which everything is known, and on spectra with known phases."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_regimes.modules.contraction import contraction_norm, contraction_rate, error_floor
from lightning_regimes.modules.refinement import refine_until_settled, refinements
from lightning_regimes.modules.spectral_loss import progressive_exponent, spectral_loss
from lightning_regimes.networks import RefinementConvNeXt, RefinementUNet
from lightning_regimes.networks.field_convolution import field_convolution


class Towards(nn.Module):
    """Φ([x; h]) = A (x − h) on the last axis."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, fields: torch.Tensor) -> torch.Tensor:
        return (fields[:, :1] - fields[:, 1:]) @ self.matrix.T


def linear(values: list[float], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(len(values), len(values), generator=generator, dtype=torch.float64)).Q
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


def test_iterates_and_their_gradients_are_those_of_the_closed_form():
    matrix = linear([0.5, 1.0, 2.0, 3.0])
    target, start = torch.randn(2, 3, 1, 4, dtype=torch.float64)
    network = Towards(matrix)
    states = list(refinements(network, target, start, step_size=0.3, num_steps=5))
    shrink = torch.eye(4, dtype=torch.float64) - 0.3 * matrix
    for count, state in enumerate(states, start=1):
        expected = target + (start - target) @ torch.linalg.matrix_power(shrink, count).T
        assert torch.allclose(state, expected, atol=1e-12)
    states[-1].square().sum().backward()
    free = matrix.clone().requires_grad_()
    power = torch.linalg.matrix_power(torch.eye(4, dtype=torch.float64) - 0.3 * free, 5)
    (target + (start - target) @ power.T).square().sum().backward()
    assert torch.allclose(network.matrix.grad, free.grad, atol=1e-10)


@pytest.mark.parametrize("values", [[0.5, 1.0, 2.0, 3.0], [0.1, 0.2, 5.0, 9.0]])
def test_rate_and_norm_of_a_symmetric_map_are_its_largest_eigenvalue(values):
    network, target = Towards(linear(values)), torch.randn(3, 1, 4, dtype=torch.float64)

    def step(state):
        return state + 0.3 * network(torch.cat([target, state], dim=1))

    expected = max(abs(1 - 0.3 * value) for value in values)
    state = torch.randn(3, 1, 4, dtype=torch.float64)
    assert contraction_rate(step, state, num_iterations=200).tolist() == pytest.approx([expected] * 3, rel=1e-3)
    assert contraction_norm(step, state, num_iterations=100).tolist() == pytest.approx([expected] * 3, rel=1e-6)


def test_rate_and_norm_differ_where_the_map_is_sheared_and_turns():
    turn = 0.8 * torch.tensor([[math.cos(1.0), -math.sin(1.0)], [math.sin(1.0), math.cos(1.0)]], dtype=torch.float64)
    shear = torch.tensor([[1.0, 2.0], [0.0, 1.0]], dtype=torch.float64)
    matrix = shear @ turn @ torch.linalg.inv(shear)
    state = torch.zeros(2, 1, 2, dtype=torch.float64)
    rate = contraction_rate(lambda fields: fields @ matrix.T, state, num_iterations=400)
    norm = contraction_norm(lambda fields: fields @ matrix.T, state, num_iterations=50)
    assert rate.tolist() == pytest.approx([0.8, 0.8], rel=0.01)
    assert norm.tolist() == pytest.approx([torch.linalg.matrix_norm(matrix, 2).item()] * 2, rel=1e-9)
    assert norm.min() > 1  # the map contracts in the end though not at once


@pytest.mark.slow
@pytest.mark.parametrize("network_class", [RefinementUNet, RefinementConvNeXt])
def test_the_norm_of_a_network_is_that_of_its_dense_jacobian(network_class):
    torch.manual_seed(0)
    network = network_class(hidden_channels=4).double().eval()
    inputs, state = torch.randn(2, 1, 1, 8, 8, dtype=torch.float64)

    def step(fields):
        return fields + 0.25 * network(torch.cat([inputs, fields], dim=1))

    jacobian = torch.autograd.functional.jacobian(step, state).reshape(64, 64)
    found = contraction_norm(step, state, num_iterations=80)
    assert found.item() == pytest.approx(torch.linalg.matrix_norm(jacobian, 2).item(), rel=0.02)
    largest = torch.linalg.eigvals(jacobian).abs().max().item()
    assert contraction_rate(step, state, num_iterations=80).item() == pytest.approx(largest, rel=0.03)


@given(bias=st.floats(-2, 2), slope=st.floats(0.2, 6))
@settings(max_examples=30, deadline=None)
def test_the_error_settles_at_the_floor_where_the_step_contracts(bias, slope):
    truth = torch.zeros(1, 1, 3, dtype=torch.float64)
    # h ← h + α (b − a (h − y)) has the fixed point y + b / a.
    contraction = torch.tensor([abs(1 - 0.25 * slope)], dtype=torch.float64)
    floor = error_floor(truth + bias, contraction, step_size=0.25)
    if contraction < 1:
        assert floor.item() >= abs(bias) / slope - 1e-9
        assert slope > 4 or floor.item() == pytest.approx(abs(bias) / slope, rel=1e-6, abs=1e-9)
    else:
        assert floor.isinf()


def test_each_sample_stops_when_it_has_settled_or_stops_shrinking():
    class TowardsOne(nn.Module):
        def forward(self, fields):
            return (1 - fields[:, 1:]) * fields[:, :1]

    rates = torch.tensor([4.0, 2.0, -1.0, 9.0, torch.nan]).view(5, 1, 1)
    start = torch.full((5, 1, 1), 2.0)
    found = refine_until_settled(TowardsOne(), rates, start, step_size=0.25, max_steps=50, tolerance=1e-3)
    fields = found.fields.flatten().tolist()
    assert fields[0] == 1.0  # at once, and the second update is none
    assert found.num_steps[0] == 2
    assert fields[1] == pytest.approx(1, abs=2e-3)
    assert 5 < found.num_steps[1] < 50
    assert fields[2] == 2.25  # the first update can't be judged, the second is larger
    assert found.num_steps[2] == 1
    assert found.num_steps[3] == 1
    assert fields[4] == 2.0
    assert found.num_steps[4] == 0


@pytest.mark.parametrize("shape", [(16,), (8, 12), (7, 9), (4, 6, 5)])
def test_spectral_losses_are_means_over_all_modes(shape):
    generator = torch.Generator().manual_seed(0)
    predicted, reference = torch.randn(2, 3, 2, *shape, generator=generator, dtype=torch.float64)
    space = tuple(range(2, 2 + len(shape)))
    guess, truth = (torch.fft.fftn(field, dim=space, norm="ortho") for field in (predicted, reference))
    axes = torch.meshgrid(*[2 * torch.fft.fftfreq(size, dtype=torch.float64) for size in shape], indexing="ij")
    rho = 1 + sum(axis.square() for axis in axes).sqrt() ** 1.5
    weight = rho / rho.mean()
    for kind, square in (
        ("complex", (guess - truth).abs().square()),
        ("amplitude", (guess.abs() - truth.abs()).square()),
    ):
        expected = (weight * square).mean().item()
        found = spectral_loss(predicted, reference, kind=kind, exponent=1.5).item()
        assert found == pytest.approx(expected, rel=1e-9)
    # An exponent of 0 weighs all alike, but for the mean, whose 0⁰ is 1, too.
    flat = spectral_loss(predicted, reference, kind="complex", exponent=0.0).item()
    assert flat == pytest.approx((predicted - reference).square().mean().item(), rel=1e-9)


def test_only_the_complex_loss_sees_a_shift():
    field = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    shifted = field.roll(3, dims=-1)
    assert spectral_loss(shifted, field, kind="amplitude", exponent=1.0).item() < 1e-10
    assert spectral_loss(shifted, field, kind="complex", exponent=1.0).item() > 1


def test_the_exponent_rises_with_the_steps():
    assert [progressive_exponent(k, 5, first=1.0, last=2.0) for k in range(1, 6)] == [1.0, 1.25, 1.5, 1.75, 2.0]
    assert progressive_exponent(1, 1, first=1.0, last=2.0) == 1.0


@pytest.mark.parametrize("kind", [RefinementUNet, RefinementConvNeXt])
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_networks_keep_the_resolution_and_start_small(kind, dim):
    torch.manual_seed(0)
    network = kind(3, 2, hidden_channels=4, dim=dim)
    for size in (8, 11):
        fields = torch.randn(2, 3, *[size] * dim)
        correction = network(fields)
        assert correction.shape == (2, 2, *[size] * dim)
        assert correction.std() < 0.3


@pytest.mark.parametrize("dim", [1, 2, 3])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_circular_convolutions_and_their_derivatives_are_those_of_torch(dim, kernel_size):
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dim]
    options = {"dtype": torch.float64, "padding": kernel_size // 2, "padding_mode": "circular"}
    torch.manual_seed(0)
    expected = kind(3, 4, kernel_size, **options)
    found = field_convolution(3, 4, kernel_size=kernel_size, dim=dim, padding="circular").double()
    found.load_state_dict(expected.state_dict())
    fields = torch.randn(2, 3, *(5, 6, 7)[:dim], dtype=torch.float64, requires_grad=True)
    outputs = [convolution(fields) for convolution in (expected, found)]
    assert torch.allclose(*outputs, atol=1e-12)
    weight = torch.randn_like(outputs[0])
    gradients = [
        torch.autograd.grad((weight * output.square()).sum(), [fields, *convolution.parameters()])
        for convolution, output in zip((expected, found), outputs, strict=True)
    ]
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(*gradients, strict=True))


def test_a_circular_network_without_pooling_commutes_with_shifts():
    network = RefinementConvNeXt(hidden_channels=4).eval()
    fields = torch.randn(1, 2, 16, 16)
    moved = network(fields.roll((3, 5), dims=(-2, -1)))
    assert torch.allclose(moved, network(fields).roll((3, 5), dims=(-2, -1)), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RefinementUNet(dim=4), "dim"),
        (lambda: RefinementUNet(padding="wrap"), "padding"),
        (lambda: RefinementUNet(normalization="none"), "normalization"),
        (lambda: RefinementUNet(depth=0), "depth"),
        (lambda: RefinementUNet(depth=3)(torch.zeros(1, 2, 8, 8)), "at least 16 points"),
        (lambda: RefinementConvNeXt(kernel_size=4), "odd"),
        (lambda: contraction_rate(lambda s: s, torch.ones(1, 1, 4), num_iterations=1), "num_iterations"),
    ],
)
def test_unusable_options_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
