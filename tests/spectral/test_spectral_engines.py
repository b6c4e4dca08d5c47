"""Engines for functions and filters are classical before training, scale, and their losses are what they say."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from lightning_regimes.spectral import ChebyshevSeries, FilterEngine, MatrixFunction, SeriesEngine
from lightning_regimes.spectral.filter_engine import quantile
from lightning_regimes.spectral.filter_loss import log_contraction, separation_loss
from lightning_regimes.spectral.function_loss import relative_error_loss
from lightning_regimes.spectral.relative_fit import relative_fit
from lightning_regimes.spectral.spectrum_batch import draw_spectra

FUNCTIONS = [MatrixFunction("inverse_sqrt"), MatrixFunction("sqrt"), MatrixFunction("power", -0.25)]


def least_error(function, points, degree):
    """The least largest relative error of any polynomial, by linear programming."""
    points = points[:: len(points) // 400]
    x = 2 * (points - points[0]) / (points[-1] - points[0]) - 1
    matrix = np.polynomial.chebyshev.chebvander(x, degree) / (points**function.degree)[:, None]
    bound = -np.ones((len(points), 1))
    program = linprog(
        np.append(np.zeros(degree + 1), 1.0),
        A_ub=np.block([[matrix, bound], [-matrix, bound]]),
        b_ub=np.concatenate([np.ones(len(points)), -np.ones(len(points))]),
        bounds=(None, None),
    )
    return program.fun


def disturbed(engine):
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in engine.network[-1].parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return engine


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.name)
def test_an_untrained_series_is_the_best_polynomial_and_scales_with_the_operator(function):
    probe = draw_spectra(4, seed=1, probe_size=16, condition=(30.0, 300.0)).probe
    engine = SeriesEngine(function, 12, probe_size=16, width=8)
    with torch.no_grad():
        found = engine(probe)
    for row in range(4):
        points = torch.linspace(float(found.lower[row]), float(found.upper[row]), 3000, dtype=torch.float64)
        series = ChebyshevSeries(found.coefficients[row], found.lower[row], found.upper[row])
        error = float((series.evaluate(points) / points**function.degree - 1).abs().max())
        assert error <= 1.2 * least_error(function, points.numpy(), 12)
        assert float(found.upper[row]) == pytest.approx(float(probe.upper[row]))
    disturbed(engine)
    before, after = engine(probe), engine(probe.scaled(100.0))
    points = draw_spectra(4, seed=1).eigenvalues
    expected = 100**function.degree * before.evaluate(points)
    torch.testing.assert_close(after.evaluate(100 * points), expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("exponent", [-0.5, 0.5, -0.25])
@pytest.mark.parametrize(("lower", "degree"), [(0.01, 8), (0.005, 32)])
def test_the_relative_fit_is_nearly_the_best(exponent, lower, degree):
    function = MatrixFunction("power", exponent)
    ends = torch.tensor([lower, 1.0], dtype=torch.float64)
    series = relative_fit(function, ends[0], ends[1], degree)
    points = torch.logspace(math.log10(lower), 0, 4000, dtype=torch.float64)
    error = float((series.evaluate(points) / function(points) - 1).abs().max())
    assert error <= 1.2 * least_error(function, points.numpy(), degree)


def test_an_untrained_filter_is_chebyshevs_and_one_at_the_top():
    probe = draw_spectra(8, seed=2, families=["log_uniform", "power_decay"]).probe
    share = torch.full((8,), 0.05, dtype=torch.float64)
    found = FilterEngine(7)(probe, share)
    torch.testing.assert_close(found.upper, quantile(probe, share), rtol=1e-12, atol=1e-4)
    values = found.evaluate(probe.ritz)
    torch.testing.assert_close(values[:, -1], torch.ones(8, dtype=torch.float64))
    inside = found.lower[:, None] + (found.upper - found.lower)[:, None] * torch.linspace(0, 1, 50)
    heights = found.evaluate(inside).abs().amax(-1)
    torch.testing.assert_close(heights, found.coefficients[:, -1].abs(), rtol=1e-6, atol=0)
    # It does not matter in which unit the operator is.
    engine = disturbed(FilterEngine(7))
    scaled = engine(probe.scaled(1e-3), share).evaluate(1e-3 * probe.ritz)
    torch.testing.assert_close(scaled, engine(probe, share).evaluate(probe.ritz), rtol=1e-8, atol=1e-9)


def test_the_contraction_is_that_of_subspace_iteration():
    top = torch.tensor([0.75, 0.8, 0.85, 0.9, 0.94, 0.97, 1.0], dtype=torch.float64)
    eigenvalues = torch.cat([torch.linspace(0.1, 0.6, 33, dtype=torch.float64), top])
    series = ChebyshevSeries(torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64), 0.1, 0.7)
    batch = ChebyshevSeries(series.coefficients[None], series.lower[None], series.upper[None])
    wanted, kept = torch.tensor([3]), torch.tensor([6])
    found = math.exp(float(log_contraction(batch, eigenvalues[None], wanted, kept)))
    weights = series.evaluate(eigenvalues)
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    errors = []
    for _ in range(12):
        rows = torch.linalg.qr(weights[:, None] * rows).Q
        # The vector that is wanted last, as far as it lies outside the subspace.
        unit = torch.eye(40, dtype=torch.float64)[37]
        errors.append(float((unit - rows @ (rows.T @ unit)).norm()))
    assert errors[-1] / errors[-4] == pytest.approx(found**3, rel=0.05)
    loss = float(separation_loss(batch, eigenvalues[None], wanted, kept))
    assert loss == pytest.approx(math.log1p(found), rel=1e-9)


def test_the_smoothed_error_tends_to_the_largest():
    eigenvalues = torch.linspace(0.2, 1, 200, dtype=torch.float64)[None]
    series = ChebyshevSeries.interpolating(torch.rsqrt, torch.tensor([0.2], dtype=torch.float64), torch.ones(1), 3)
    error = float((series.evaluate(eigenvalues) * eigenvalues.sqrt() - 1).abs().max())
    found = [
        float(relative_error_loss(series, eigenvalues.rsqrt(), eigenvalues, exponent=q, tolerance=0.5))
        for q in (2.0, 8.0, 1000.0)
    ]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(math.log1p(error / 0.5), rel=0.01)


def test_operators_far_from_what_is_possible_count_more():
    eigenvalues = torch.linspace(0.2, 1, 200, dtype=torch.float64).expand(2, -1)
    lower = torch.tensor([0.2, 0.2], dtype=torch.float64)
    series = ChebyshevSeries.interpolating(torch.rsqrt, lower, torch.ones(2), 3)
    truth = torch.stack([eigenvalues[0].rsqrt(), 1.5 * eigenvalues[1].rsqrt()])
    errors = (series.evaluate(eigenvalues) / truth - 1).abs().amax(-1)
    best = errors / torch.tensor([1.0, 4.0])
    options = {"exponent": 1000.0, "tolerance": 1e-9, "best": best}
    losses = (errors / 1e-9).log1p()
    unweighted = float(relative_error_loss(series, truth, eigenvalues, exponent=1000.0, tolerance=1e-9))
    assert unweighted == pytest.approx(float(losses.mean()), rel=1e-3)
    for aversion in (0.0, 1.0, 2.0):
        found = float(relative_error_loss(series, truth, eigenvalues, aversion=aversion, **options))
        weight = 4.0**aversion
        expected = float((losses[0] + weight * losses[1]) / (1 + weight))
        assert found == pytest.approx(expected, rel=1e-3)


def test_the_quantile_of_a_probe_is_near_that_of_the_spectrum():
    batch = draw_spectra(64, seed=3, families=["power_decay", "random_matrix"], probe_noise=0.0)
    share = torch.full((64,), 0.2, dtype=torch.float64)
    truth = batch.eigenvalues[:, -51]
    ratio = (quantile(batch.probe, share) / truth).numpy()
    assert 0.8 < float(np.median(ratio)) < 1.2


def test_what_is_no_function_is_said():
    with pytest.raises(ValueError, match="`name` is one of"):
        MatrixFunction("log")
    with pytest.raises(ValueError, match="lies between -1 and 1"):
        MatrixFunction("power", 2.0)
    with pytest.raises(ValueError, match="is positive"):
        MatrixFunction("exp", -1.0)
    with pytest.raises(ValueError, match="at least 1"):
        SeriesEngine(MatrixFunction(), 0)
    with pytest.raises(ValueError, match="at least 1"):
        FilterEngine(0)
