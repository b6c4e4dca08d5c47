import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_regimes.signed_log_density import signed_log, signed_log_density, signed_power

FINITE = st.floats(-1e6, 1e6)


@given(st.lists(FINITE, min_size=1, max_size=8), st.floats(1e-6, 1e3))
def test_the_signed_power_undoes_the_signed_logarithm(values, threshold):
    back = signed_power(signed_log(values, threshold), threshold)
    np.testing.assert_allclose(back, values, rtol=1e-8, atol=1e-9 * threshold + 1e-12)


def test_decades_are_even_far_from_zero_and_small_values_are_linear():
    assert np.diff(signed_log([1e3, 1e4, 1e5], 1e-2)) == pytest.approx(1.0, abs=1e-4)
    assert signed_log([1e-6, -2e-6], 1.0) == pytest.approx([1e-6 / np.log(10), -2e-6 / np.log(10)], rel=1e-5)


def test_one_node_is_a_gaussian_at_its_signed_logarithm():
    found = signed_log_density([[9.0]], [[1.0]], threshold=1.0, width=0.1, positions=[0.9, 1.0, 1.2])
    gauss = np.exp(-0.5 * np.array([-1.0, 0.0, 2.0]) ** 2) / (0.1 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found.density, gauss, rtol=1e-12)
    assert np.isnan(found.standard_error).all(), "one start tells nothing of the others"


@given(st.integers(0, 1000))
def test_the_density_integrates_to_one_and_counts_each_side_of_zero(seed):
    generator = np.random.default_rng(seed)
    nodes = np.sort(generator.normal(size=(3, 20)) * 10.0 ** generator.uniform(-3, 3, size=(3, 20)))
    weights = generator.dirichlet(np.ones(20), size=3)
    found = signed_log_density(nodes, weights, positions=4000)
    assert np.trapezoid(found.density, found.positions) == pytest.approx(1.0, abs=1e-5)
    np.testing.assert_allclose(found.grid, signed_power(found.positions, found.threshold))
    share = weights[nodes > 50 * found.threshold].sum() / 3
    beyond = found.positions > signed_log(50 * found.threshold, found.threshold)
    edge = 6 * found.width  # what the Gaussian carries across
    near = np.abs(signed_log(nodes, found.threshold) - signed_log(50 * found.threshold, found.threshold)) < edge
    slack = weights[near].sum() / 3 + 1e-3
    assert np.trapezoid(found.density[beyond], found.positions[beyond]) == pytest.approx(share, abs=slack)


def test_the_standard_error_is_that_of_the_mean_over_starts():
    nodes, weights = np.array([[1.0, 2.0], [1.5, 3.0], [0.5, 9.0]]), np.full((3, 2), 0.5)
    options = {"threshold": 1.0, "width": 0.2, "positions": [0.3, 0.5]}
    each = [signed_log_density(nodes[i : i + 1], weights[i : i + 1], **options).density for i in range(3)]
    found = signed_log_density(nodes, weights, **options)
    np.testing.assert_allclose(found.density, np.mean(each, axis=0))
    np.testing.assert_allclose(found.standard_error, np.std(each, axis=0, ddof=1) / np.sqrt(3))


@pytest.mark.parametrize(
    ("nodes", "weights", "options", "name"),
    [
        ([1.0], [1.0], {}, "nodes"),
        ([[1.0, 2.0]], [[1.0]], {}, "weights"),
        ([[np.nan]], [[1.0]], {}, "finite"),
        ([[1.0]], [[1.0]], {"threshold": 0.0}, "threshold"),
        ([[1.0]], [[1.0]], {"width": -1.0}, "width"),
    ],
)
def test_unusable_arguments_are_named(nodes, weights, options, name):
    with pytest.raises(ValueError, match=name):
        signed_log_density(nodes, weights, **options)


def test_a_zero_operator_is_one_peak_at_zero():
    found = signed_log_density(np.zeros((2, 3)), np.full((2, 3), 1 / 3))
    assert found.grid[found.density.argmax()] == pytest.approx(0.0, abs=1e-4)
    assert np.trapezoid(found.density, found.positions) == pytest.approx(1.0, abs=1e-4)
