"""Spectral densities against matrices with prescribed spectra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_regimes.curvature import SpectralDensity, spectral_density
from lightning_regimes.probe import ProbeError


def matrix_with(spectrum: np.ndarray) -> Tensor:
    vectors, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((len(spectrum), len(spectrum))))
    return torch.from_numpy((vectors * spectrum) @ vectors.T)


def broadened(positions: np.ndarray, found: SpectralDensity) -> Tensor:
    """The density of known positions, with the width of the estimate and on its grid."""
    normal = torch.distributions.Normal(torch.from_numpy(positions), found.width)
    return normal.log_prob(found.grid[:, None]).exp().mean(1)


def distance(positions: np.ndarray, found: SpectralDensity) -> float:
    return float(torch.trapezoid((found.density - broadened(positions, found)).abs(), found.grid))


BULK = np.random.default_rng(1).standard_normal(396)
SPECTRA = {
    "indefinite with outliers": np.concatenate([[30.0, 20.0, 12.0, -9.0], BULK]),
    "negative": -np.geomspace(0.5, 50, 300),
    "no gap": np.linspace(-1, 3, 400),
    "mostly null": np.concatenate([np.geomspace(1e-2, 10, 60), np.zeros(300)]),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_mass_moments_and_shape(name: str) -> None:
    spectrum = SPECTRA[name]
    found = spectral_density(matrix_with(spectrum), num_vectors=30)
    assert found.mass == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(30, dtype=torch.float64))
    for power in (1, 2, 3):
        moment = found.moment(power)
        assert abs(moment.value - np.mean(spectrum**power)) <= 3 * moment.standard_error
    assert distance(spectrum, found) <= 0.06
    # The error is the one that is claimed: on average over the grid no more than one and a half standard errors.
    assert distance(spectrum, found) <= 1.5 * float(torch.trapezoid(found.standard_error, found.grid))
    assert spectrum.min() - 1e-9 <= float(found.nodes.min()) <= float(found.nodes.max()) <= spectrum.max() + 1e-9


@pytest.mark.parametrize("power", [1, 2])
def test_moments_are_unbiased_with_an_honest_standard_error(power: int) -> None:
    spectrum = SPECTRA["indefinite with outliers"]
    matrix = matrix_with(spectrum)
    moments = [spectral_density(matrix, num_vectors=4, num_steps=2, grid=2, seed=s).moment(power) for s in range(200)]
    errors = np.array([moment.value for moment in moments]) - np.mean(spectrum**power)
    assert abs(errors.mean()) <= 4 * errors.std() / math.sqrt(len(errors))
    claimed = math.sqrt(np.mean([moment.standard_error**2 for moment in moments]))
    assert claimed == pytest.approx(math.sqrt(np.mean(errors**2)), rel=0.2)


def test_quadrature_is_exact_up_to_its_degree() -> None:
    # Each start gives zᵀ Hᵖ z / n for its own z: at twice as many steps, the same numbers.
    matrix = matrix_with(SPECTRA["no gap"])
    few, many = (spectral_density(matrix, num_vectors=3, num_steps=steps) for steps in (4, 8))
    for power in range(8):
        expected = (many.weights * many.nodes**power).sum(1)
        torch.testing.assert_close((few.weights * few.nodes**power).sum(1), expected, rtol=1e-10, atol=1e-12)
    assert not math.isclose(few.moment(8).value, many.moment(8).value, rel_tol=1e-8)


def test_fewer_dimensions_than_steps() -> None:
    spectrum = np.array([-2.0, -0.5, 0.1, 1.0, 3.0, 7.0])
    found = spectral_density(matrix_with(spectrum), num_vectors=3, num_steps=50)
    assert found.num_matvecs == 18
    torch.testing.assert_close(found.nodes, torch.from_numpy(spectrum).expand(3, 6))


def test_multiple_eigenvalues_have_their_weight() -> None:
    spectrum = np.repeat([-1.0, 2.0, 5.0], [100, 60, 40])
    found = spectral_density(matrix_with(spectrum), num_vectors=30)
    shares = torch.stack(
        [(found.weights * ((found.nodes - value).abs() < 1e-9)).sum(1) for value in (-1.0, 2.0, 5.0)], dim=1
    )
    torch.testing.assert_close(shares.sum(1), torch.ones(30, dtype=torch.float64))
    error = shares.std(0) / math.sqrt(30)
    assert bool(((shares.mean(0) - torch.tensor([0.5, 0.3, 0.2])).abs() <= 3 * error).all())
    # Exactly so where the vectors of signs have no choice.
    found = spectral_density(torch.diag(torch.from_numpy(spectrum)), num_vectors=2)
    assert found.num_matvecs == 6
    assert found.weights.tolist() == [pytest.approx([0.5, 0.3, 0.2])] * 2


def test_starts_that_stop_early_are_filled_up_with_no_weight() -> None:
    # A vector of signs is an eigenvector, or a sum of two, of a matrix that exchanges two coordinates.
    exchange = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    found = spectral_density(torch.block_diag(exchange, exchange), num_vectors=20)
    assert found.nodes.shape == (20, 2)
    assert found.num_matvecs < 40
    torch.testing.assert_close(found.weights.sum(1), torch.ones(20, dtype=torch.float64))
    assert found.mass == pytest.approx(1, abs=1e-6)
    assert found.moment(2).value == pytest.approx(1)
    assert found.moment(2).standard_error == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_one_value(value: float) -> None:
    found = spectral_density(value * torch.eye(7), num_vectors=4)
    assert found.num_matvecs == 4
    assert found.width == pytest.approx((abs(value) or 1) / 80)
    assert found.mass == pytest.approx(1, abs=1e-6)
    assert found.moment(1).value == pytest.approx(value)
    assert float(found.grid[found.density.argmax()]) == pytest.approx(value, abs=found.width)


def test_logarithm_spreads_decades() -> None:
    spectrum = np.concatenate([-np.geomspace(1e-3, 1e-1, 150), np.geomspace(1, 100, 50)])
    found = spectral_density(matrix_with(spectrum), log=True, num_vectors=30, width=0.2)
    assert found.mass == pytest.approx(1, abs=1e-6)
    assert distance(np.log10(np.abs(spectrum)), found) <= 0.1
    small = found.grid < -0.5
    share = float(torch.trapezoid(found.density[small], found.grid[small]))
    assert share == pytest.approx(0.75, abs=0.03)
    assert found.moment(1).value == pytest.approx(spectrum.mean(), abs=3 * found.moment(1).standard_error)


def test_logarithm_ends_at_the_resolution_of_the_dtype() -> None:
    spectrum = np.concatenate([np.linspace(1, 2, 20), np.zeros(180)])
    found = spectral_density(matrix_with(spectrum).float(), log=True)
    floor = math.log10(32 * torch.finfo(torch.float32).eps * 2)
    assert float(found.grid[found.density.argmax()]) == pytest.approx(floor, abs=found.width)
    assert found.mass == pytest.approx(1, abs=1e-6)


def test_grid_and_width_may_be_given() -> None:
    spectrum = SPECTRA["indefinite with outliers"]
    found = spectral_density(matrix_with(spectrum), grid=np.linspace(-4, 4, 81).tolist(), width=0.5, num_vectors=20)
    assert found.width == 0.5
    assert found.grid.tolist() == np.linspace(-4, 4, 81).tolist()
    assert distance(spectrum, found) <= 0.05
    assert found.mass == pytest.approx(float(torch.trapezoid(broadened(spectrum, found), found.grid)), abs=0.01)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=2, max_size=12), st.floats(-50, 50), st.integers(-10, 10))
@example([0.0, 2.225073858507e-311], 0.0, 0)
def test_shift_and_scale(spectrum: list[float], shift: float, exponent: int) -> None:
    # The nodes follow the operator; the first moment of a diagonal matrix is the same for all vectors of signs.
    scale = 2.0**exponent
    diagonal = torch.diag(torch.tensor(spectrum, dtype=torch.float64))
    found = spectral_density(diagonal, num_vectors=2)
    moved = spectral_density(scale * (diagonal + shift * torch.eye(len(spectrum), dtype=torch.float64)), num_vectors=2)
    for power in (1, 2):
        expected = np.mean((scale * (np.array(spectrum) + shift)) ** power)
        assert moved.moment(power).value == pytest.approx(expected, rel=1e-9, abs=1e-9 * (150 * scale) ** power)
    assert found.mass == pytest.approx(1, abs=1e-6)
    assert moved.mass == pytest.approx(1, abs=1e-6)


def test_seed_and_global_generator() -> None:
    matrix = matrix_with(BULK)
    state = torch.get_rng_state()
    first, again, other = (spectral_density(matrix, num_steps=10, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.density, again.density)
    assert not torch.equal(first.density, other.density)


def test_figure_shows_the_density_and_its_band() -> None:
    found = spectral_density(matrix_with(BULK), num_steps=20)
    (axes,) = found.figure().axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), found.density.numpy())
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(
        float((found.density + 2 * found.standard_error).max())
    )
    assert axes.get_yscale() == "log"
    assert axes.get_xlabel() == "eigenvalue"
    assert "log10" in spectral_density(matrix_with(BULK), num_steps=20, log=True).figure().axes[0].get_xlabel()


def test_arguments_are_checked() -> None:
    matrix = torch.eye(4)
    with pytest.raises(ValueError, match="`num_vectors` must be at least 2"):
        spectral_density(matrix, num_vectors=1)
    with pytest.raises(ValueError, match="`num_steps` must be at least 1, got 0"):
        spectral_density(matrix, num_steps=0)
    with pytest.raises(ValueError, match="`width` must be positive and finite, got 0"):
        spectral_density(matrix, width=0.0)
    with pytest.raises(ValueError, match="`grid` must have at least 2 points, got 1"):
        spectral_density(matrix, grid=1)
    with pytest.raises(ValueError, match="points that ascend"):
        spectral_density(matrix, grid=[1.0, 0.0])
    with pytest.raises(ValueError, match="use `log=False`"):
        spectral_density(torch.zeros(3, 3), log=True)
    with pytest.raises(ValueError, match="`power` must not be negative"):
        spectral_density(matrix).moment(-1)
    with pytest.raises(ValueError, match="square"):
        spectral_density(torch.ones(2, 3))
    with pytest.raises(ProbeError, match="not finite"):
        spectral_density(torch.full((3, 3), math.nan))
