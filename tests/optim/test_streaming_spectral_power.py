"""Subspace iterations converge to the powers, and the basis that is handed on makes up for a single one."""

import pytest
import torch

from lightning_regimes.optim import spectral_power, streaming_spectral_power


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def geometric(rows, columns, *, ratio=0.5, seed=0):
    size = min(rows, columns)
    values = ratio ** torch.arange(size, dtype=torch.float64)
    left = torch.linalg.qr(gaussian(rows, size, seed=seed)).Q
    return (left * values) @ torch.linalg.qr(gaussian(columns, size, seed=seed + 1)).Q.mT


def error(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize("shape", [(8, 8), (8, 20), (20, 8)])
@pytest.mark.parametrize("power", [0.0, 0.125, 0.5])
def test_many_iterations_converge(shape, power):
    x = geometric(*shape)
    y, basis = streaming_spectral_power(x, power, iterations=40)
    assert error(y, spectral_power(x, power, method="svd")) <= 1e-8
    torch.testing.assert_close(basis.mT @ basis, torch.eye(8, dtype=torch.float64))


def test_single_iterations_go_on_where_the_last_one_ended():
    x = geometric(10, 14)
    together, expected_basis = streaming_spectral_power(x, 0.25, iterations=5)
    basis = None
    for _ in range(5):
        apart, basis = streaming_spectral_power(x, 0.25, basis)
    assert torch.equal(apart, together)
    assert torch.equal(basis, expected_basis)


def test_a_basis_that_is_handed_on_follows_a_matrix_that_drifts():
    momentum, basis = geometric(24, 32, ratio=0.8).float(), None
    errors = []
    for step in range(60):
        momentum = 0.95 * momentum + 0.05 * geometric(24, 32, ratio=0.8, seed=2 * step).float() * 0.05
        y, basis = streaming_spectral_power(momentum, 0.125, basis)
        errors.append(error(y, spectral_power(momentum, 0.125)))
    assert max(errors[30:]) < 0.5 * errors[0]


@pytest.mark.parametrize("scale", [1e-8, 1e4])
def test_a_multiple_gives_its_power_and_the_same_basis(scale):
    x = gaussian(6, 9).float()
    y, basis = streaming_spectral_power(x, 0.125)
    scaled, same = streaming_spectral_power(x * scale, 0.125)
    assert error(scaled / scale**0.125, y) <= 2e-6
    torch.testing.assert_close(same, basis, rtol=0, atol=1e-5)


def test_stacks_are_their_matrices_and_the_basis_is_not_written_to():
    x = gaussian(3, 6, 9).float()
    _, basis = streaming_spectral_power(x, 0.125)
    kept = basis.clone()
    y, following = streaming_spectral_power(x, 0.125, basis)
    assert torch.equal(basis, kept)
    for index in range(3):
        single, single_basis = streaming_spectral_power(x[index], 0.125, basis[index])
        torch.testing.assert_close(y[index], single, rtol=0, atol=1e-5)
        torch.testing.assert_close(following[index], single_basis, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"power": 2.0}, "`power` must be between 0 and 1"),
        ({"iterations": 0}, "`iterations` must be at least 1, got 0"),
        ({"basis": torch.eye(4)}, r"`basis` has shape \(3, 3\) for this `x`, got \(4, 4\)"),
        ({"x": torch.tensor([[torch.nan]])}, "`x` has finite entries"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    arguments = {"x": torch.ones(3, 4), "power": 0.5} | arguments
    with pytest.raises(ValueError, match=message):
        streaming_spectral_power(arguments.pop("x"), arguments.pop("power"), **arguments)
