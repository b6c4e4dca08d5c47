"""The shipped stages follow every power as closely as is stated, and the weights are the best for them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.spectral import OddExpansion, max_relative_error, power_expansion
from lightning_regimes.spectral.stages import STAGES

POWERS = [0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0]
# What the docstring of `power_expansion` says.
LARGEST_ERRORS = {1e-1: 0.0032, 1e-2: 0.0044, 1e-3: 0.0044, 1e-4: 0.021, 1e-5: 0.019}
ERRORS_OF_ONE_EIGHTH = {1e-1: 0.0027, 1e-2: 0.0029, 1e-3: 0.0038, 1e-4: 0.018, 1e-5: 0.018}
NUM_PRODUCTS = {1e-1: 9, 1e-2: 15, 1e-3: 21, 1e-4: 24, 1e-5: 30}


@pytest.mark.parametrize("lower", sorted(STAGES))
@pytest.mark.parametrize("power", POWERS)
def test_one_set_of_stages_serves_every_power(power, lower):
    expansion = power_expansion(power, lower=lower)
    assert expansion.num_matmuls((64, 64)) == NUM_PRODUCTS[lower]
    assert max_relative_error(expansion, lower) <= LARGEST_ERRORS[lower]
    assert sum(abs(weight) for weight in expansion.weights) <= 1.6


@settings(deadline=None, max_examples=15)
@given(power=st.floats(0, 1), lower=st.sampled_from(sorted(STAGES)))
def test_powers_between_are_served_as_well(power, lower):
    assert max_relative_error(power_expansion(power, lower=lower), lower) <= LARGEST_ERRORS[lower]


@pytest.mark.parametrize("lower", sorted(STAGES))
def test_the_power_of_htmuon_is_followed_as_closely_as_is_stated(lower):
    assert max_relative_error(power_expansion(1 / 8, lower=lower), lower) <= ERRORS_OF_ONE_EIGHTH[lower]


def test_the_power_one_is_the_matrix():
    expansion = power_expansion(1.0)
    x = torch.randn(20, 30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(expansion(x), x, rtol=0, atol=1e-6 * float(x.abs().max()))


def test_the_best_weights_of_a_single_stage_are_known():
    # With x (a + b x²) and p = 1/2 on [1/4, 1], two columns fit: the error of the best equioscillates three times.
    expansion = power_expansion(0.5, lower=0.25, stages=[(2.0, -1.0, 0.0)])
    sigma = torch.exp(torch.linspace(math.log(0.25), 0, 2001, dtype=torch.float64))
    error = (expansion.scalar(sigma) / sigma.sqrt() - 1).numpy()
    largest = np.abs(error).max()
    turns = error[np.flatnonzero(np.abs(error) > 0.995 * largest)]
    assert np.count_nonzero(np.diff(np.sign(turns))) >= 2


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 99), power=st.sampled_from(POWERS[:-1]))
def test_no_other_weights_are_better(seed, power):
    expansion = power_expansion(power)
    change = torch.randn(len(expansion.weights), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    weights = [weight + 1e-3 * float(part) for weight, part in zip(expansion.weights, change, strict=True)]
    other = OddExpansion(expansion.stages, weights, degree=power)
    assert max_relative_error(other, 1e-4) >= max_relative_error(expansion, 1e-4) - 1e-4


@pytest.mark.parametrize("lower", sorted(STAGES))
@pytest.mark.parametrize("power", [0.0, 0.125, 0.5])
def test_what_is_below_is_damped_and_what_is_slightly_above_is_bounded(power, lower):
    expansion = power_expansion(power, lower=lower)
    below = expansion.scalar(torch.tensor([lower / 100, lower / 1000], dtype=torch.float64))
    assert float(below[0]) <= 0.12 * (lower / 100) ** power or power == 0.5
    assert float(below[1] / below[0]) == pytest.approx(0.1, rel=0.02)
    assert float(expansion.scalar(torch.linspace(0, 1.02, 1001)).max()) <= 1.1


def test_the_shortest_table_that_reaches_is_taken_and_an_expansion_is_computed_once():
    for lower, reaching in ((0.5, 1e-1), (0.1, 1e-1), (0.02, 1e-2), (2e-4, 1e-4), (1e-5, 1e-5)):
        assert power_expansion(0.125, lower=lower).stages == STAGES[reaching]
    assert power_expansion(0.3) is power_expansion(0.3)


@pytest.mark.parametrize(
    ("power", "lower", "message"),
    [
        (-0.1, 1e-4, "`power` must be between 0 and 1, got -0.1"),
        (1.1, 1e-4, "`power` must be between 0 and 1, got 1.1"),
        (math.nan, 1e-4, "`power` must be between 0 and 1"),
        (0.5, 0.0, "`lower` must be between 0 and 1, got 0.0"),
        (0.5, 1.0, "`lower` must be between 0 and 1, got 1.0"),
        (0.5, 1e-7, "`lower` must be at least 1e-05 without `stages`, got 1e-07"),
    ],
)
def test_wrong_arguments_are_named(power, lower, message):
    with pytest.raises(ValueError, match=message):
        power_expansion(power, lower=lower)
