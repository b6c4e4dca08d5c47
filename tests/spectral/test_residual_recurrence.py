"""The recurrence is the polynomial that it says, whatever its coefficients, and Chebyshev's is Chebyshev's."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev as numpy_chebyshev

from lightning_regimes.spectral import (
    ResidualRecurrence,
    SpectralProbe,
    as_operator,
    chebyshev,
    clipped,
    lanczos_probe,
    minres_polynomial,
    smoothing,
    spanning,
)
from lightning_regimes.spectral.harmonic_ritz import leja_order


def random_recurrence(degree, seed, batch=()):
    generator = torch.Generator().manual_seed(seed)
    alpha, beta = torch.rand(2, *batch, degree, generator=generator, dtype=torch.float64)
    beta[..., 0] = 0
    return ResidualRecurrence(alpha, beta)


@settings(deadline=None, max_examples=40)
@given(degree=st.integers(1, 40), lower=st.floats(1e-4, 0.5), upper=st.floats(1.0, 3.0))
def test_chebyshev_coefficients_reproduce_the_polynomial(degree, lower, upper):
    eigenvalues = torch.linspace(0, upper, 101, dtype=torch.float64)
    x = (upper + lower - 2 * eigenvalues.numpy()) / (upper - lower)
    coefficients = np.eye(degree + 1)[degree]
    values = numpy_chebyshev.chebval(x, coefficients)
    truth = torch.from_numpy(values / numpy_chebyshev.chebval((upper + lower) / (upper - lower), coefficients))
    found = chebyshev(lower, upper, degree).residual(eigenvalues)
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(degree=st.integers(1, 16), seed=st.integers(0, 99))
def test_the_residual_is_one_at_zero_and_goes_with_the_inverse(degree, seed):
    recurrence = random_recurrence(degree, seed)
    zero = torch.zeros(1, dtype=torch.float64)
    assert abs(float(recurrence.residual(zero)) - 1) <= 1e-14
    eigenvalues = torch.linspace(0.1, 1, 50, dtype=torch.float64)
    residual = recurrence.residual(eigenvalues)
    torch.testing.assert_close(1 - eigenvalues * recurrence.inverse(eigenvalues), residual, rtol=1e-10, atol=1e-10)


def test_applied_it_is_the_polynomial_of_the_matrix_in_one_product_less_than_its_degree(with_spectrum, random_vector):
    eigenvalues = torch.linspace(0.05, 1, 30, dtype=torch.float64)
    operator, vectors = with_spectrum(eigenvalues)
    recurrence = random_recurrence(7, 5)
    vector = random_vector(30)
    expected = vectors * recurrence.inverse(eigenvalues) @ vectors.T @ vector
    torch.testing.assert_close(recurrence.apply(operator, vector), expected, rtol=0, atol=1e-10)
    assert operator.num_matvecs == recurrence.num_matvecs == 6
    both = torch.stack([vector, 2 * vector], dim=1)
    torch.testing.assert_close(recurrence.apply(operator, both)[:, 1], 2 * expected, rtol=0, atol=1e-10)


def test_a_batch_is_each_of_its_polynomials():
    together = random_recurrence(5, 2, (3,))
    eigenvalues = torch.rand(3, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for row in range(3):
        alone = ResidualRecurrence(together.alpha[row], together.beta[row])
        torch.testing.assert_close(together.residual(eigenvalues)[row], alone.residual(eigenvalues[row]))
        torch.testing.assert_close(together.inverse(eigenvalues)[row], alone.inverse(eigenvalues[row]))


def test_the_least_of_the_inverse_is_found_and_scales():
    recurrence = chebyshev(0.1, 1.0, 8)
    grid = torch.linspace(1e-3, 1, 20001, dtype=torch.float64)
    truth = float(recurrence.inverse(grid).min())
    found = float(recurrence.smallest_inverse(torch.tensor(1.0, dtype=torch.float64)))
    assert found == pytest.approx(truth, rel=1e-3)
    scaled = recurrence.scaled(7.0)
    torch.testing.assert_close(scaled.residual(7 * grid), recurrence.residual(grid), rtol=0, atol=1e-12)
    # An even degree with an upper end that is too low turns negative above it.
    assert float(recurrence.smallest_inverse(torch.tensor(1.2, dtype=torch.float64))) < 0


def test_rules_take_their_interval_from_the_probe(with_spectrum):
    operator, _ = with_spectrum(torch.logspace(-5, 0, 80, dtype=torch.float64))
    probe = lanczos_probe(operator)
    upper, lowest = float(probe.upper), float(probe.ritz[0])
    for found, lower in (
        (clipped(probe, 8), max(lowest, upper / 96)),
        (smoothing(probe, 8), upper / 30),
        (spanning(probe, 8), lowest),
    ):
        torch.testing.assert_close(found.alpha, chebyshev(lower, upper, 8).alpha, rtol=1e-14, atol=0)


def test_the_minres_polynomial_is_the_residual_of_minres(with_spectrum, random_vector):
    eigenvalues = torch.logspace(-2, 0, 40, dtype=torch.float64)
    operator, vectors = with_spectrum(eigenvalues)
    vector = random_vector(40)
    degree = 6
    krylov = [vector]
    for _ in range(degree):
        krylov.append(operator @ krylov[-1])
    basis = torch.linalg.qr(torch.stack(krylov[1:], 1)).Q
    expected = vector - basis @ (basis.T @ vector)
    parts = vectors.T @ vector
    for num_steps in (degree, degree + 4):
        probe = lanczos_probe(operator, num_steps=num_steps, start=vector)
        found = minres_polynomial(probe, degree).residual(eigenvalues) * parts
        torch.testing.assert_close(found, vectors.T @ expected, rtol=0, atol=1e-7)


def test_lejas_order_begins_at_the_far_end_and_alternates():
    assert leja_order(np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [4.0, 1.0, 2.0, 3.0]


def test_what_cannot_be_a_recurrence_is_said():
    one = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="one shape"):
        ResidualRecurrence(one, one[:2])
    with pytest.raises(ValueError, match="0 < lower < upper"):
        chebyshev(1.0, 1.0, 3)
    with pytest.raises(ValueError, match="`degree` is at least 1"):
        chebyshev(0.1, 1.0, 0)
    with pytest.raises(ValueError, match="one polynomial is applied"):
        random_recurrence(3, 0, (2,)).apply(as_operator(torch.eye(3, dtype=torch.float64)), one)
    with pytest.raises(ValueError, match="between 1 and the 3 values"):
        minres_polynomial(SpectralProbe.from_ritz(one, one / 3, 0 * one), 4)
    with pytest.raises(ValueError, match="not positive"):
        minres_polynomial(SpectralProbe.from_ritz(-one, one / 3, 0 * one), 2)
