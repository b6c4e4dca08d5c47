"""A Chebyshev series interpolates, is applied by products alone, and its filters are what they say."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev as numpy_chebyshev

from lightning_regimes.spectral import ChebyshevSeries, step_filter
from lightning_regimes.spectral.chebyshev_series import damping_factors


@settings(deadline=None, max_examples=30)
@given(degree=st.integers(0, 30), seed=st.integers(0, 99))
def test_clenshaws_recurrence_is_the_series(degree, seed):
    generator = torch.Generator().manual_seed(seed)
    coefficients = torch.randn(degree + 1, generator=generator, dtype=torch.float64)
    series = ChebyshevSeries(coefficients, 0.5, 2.5)
    x = torch.linspace(-1, 1, 41, dtype=torch.float64)
    truth = torch.from_numpy(numpy_chebyshev.chebval(x.numpy(), coefficients.numpy()))
    torch.testing.assert_close(series.evaluate(1.5 + x), truth, rtol=0, atol=1e-11)


def test_interpolation_passes_through_its_nodes_and_reproduces_polynomials():
    series = ChebyshevSeries.interpolating(lambda x: 3 * x**3 - x + 2, 0.2, 1.7, 3)
    points = torch.linspace(0.2, 1.7, 17, dtype=torch.float64)
    torch.testing.assert_close(series.evaluate(points), 3 * points**3 - points + 2, rtol=0, atol=1e-12)
    truth = numpy_chebyshev.chebinterpolate(lambda x: np.exp((x + 1) / 2), 9)
    found = ChebyshevSeries.interpolating(torch.exp, 0.0, 1.0, 9).coefficients
    torch.testing.assert_close(found, torch.from_numpy(truth), rtol=0, atol=1e-13)


@pytest.mark.parametrize("degree", [0, 1, 2, 9])
def test_applied_it_is_the_function_of_the_matrix_in_as_many_products_as_its_degree(
    degree, with_spectrum, random_vector
):
    eigenvalues = torch.linspace(0.3, 2, 25, dtype=torch.float64)
    operator, vectors = with_spectrum(eigenvalues)
    series = ChebyshevSeries.interpolating(torch.rsqrt, 0.3, 2.0, degree)
    vector = random_vector(25)
    expected = vectors * series.evaluate(eigenvalues) @ vectors.T @ vector
    torch.testing.assert_close(series.apply(operator, vector), expected, rtol=0, atol=1e-11)
    assert operator.num_matvecs == degree


def test_a_batch_is_each_of_its_series():
    lower, upper = torch.tensor([0.1, 0.5], dtype=torch.float64), torch.tensor([1.0, 4.0], dtype=torch.float64)
    together = ChebyshevSeries.interpolating(torch.rsqrt, lower, upper, 12)
    points = torch.linspace(0.5, 1, 9, dtype=torch.float64).expand(2, -1)
    for row in range(2):
        alone = ChebyshevSeries.interpolating(torch.rsqrt, float(lower[row]), float(upper[row]), 12)
        torch.testing.assert_close(together.evaluate(points)[row], alone.evaluate(points[row]), rtol=0, atol=1e-12)


def test_jackson_damping_keeps_a_filter_between_zero_and_one():
    points = torch.linspace(0, 1, 2001, dtype=torch.float64)
    options = {"lower": 0.0, "upper": 1.0, "degree": 60}
    jackson = step_filter((0.4, 0.7), **options).evaluate(points)
    assert float(jackson.min()) >= -1e-12
    assert float(jackson.max()) <= 1 + 1e-12
    assert float(step_filter((0.4, 0.7), damping="none", **options).evaluate(points).max()) > 1.05
    lanczos = step_filter((0.4, 0.7), damping="lanczos", **options).evaluate(points)
    assert 1.0 < float(lanczos.max()) < 1.02

    def width(values):
        rising = points[points < 0.55]
        inside = (values[points < 0.55] > 0.1) & (values[points < 0.55] < 0.9)
        return float(rising[inside][-1] - rising[inside][0])

    assert width(lanczos) < 0.75 * width(jackson)


def test_the_trace_of_a_filter_counts_the_eigenvalues_in_its_band():
    eigenvalues = torch.linspace(0, 1, 1001, dtype=torch.float64)
    count = float(step_filter((0.25, 0.5), lower=-0.01, upper=1.01, degree=100).evaluate(eigenvalues).sum())
    assert count == pytest.approx(250.5, abs=2)


def test_jackson_factors_are_those_of_the_formula():
    degree, k = 5, 3
    angle = math.pi / (degree + 2)
    truth = ((1 - k / (degree + 2)) * math.sin(angle) * math.cos(k * angle)) + math.cos(angle) * math.sin(k * angle) / (
        degree + 2
    )
    assert float(damping_factors(degree, "jackson")[k]) == pytest.approx(truth / math.sin(angle), rel=1e-12)


def test_what_is_no_series_is_said():
    one = torch.ones(3, dtype=torch.float64)
    with pytest.raises(ValueError, match="below `upper`"):
        ChebyshevSeries(one, 1.0, 1.0)
    with pytest.raises(ValueError, match="`damping` is one of"):
        ChebyshevSeries(one, 0.0, 1.0).damped("hann")
    with pytest.raises(ValueError, match="`band` is"):
        step_filter((1.0, 0.5), lower=0.0, upper=1.0, degree=3)
