import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_regimes.callbacks.overhead_budget import OverheadBudget


def simulate(fraction, steps, step_seconds, costs, units=30):
    """Train for so many steps; a measurement takes the next of `costs`, its trial one part in `units` of the first."""
    budget = OverheadBudget(fraction)
    costs = itertools.cycle(costs)
    measured = []
    for step in range(steps):
        budget.training += step_seconds
        if budget.grants_trial(4 * step_seconds):
            budget.tried(seconds=4 * step_seconds, unit=(25 * step_seconds) / units, units=units)
        elif budget.grants_measurement():
            budget.measured(next(costs))
            measured.append(step)
    return budget, measured


@given(
    fraction=st.floats(0.01, 0.3),
    cost=st.floats(1.0, 100.0),
    noise=st.lists(st.floats(0.7, 1.4), min_size=1, max_size=20),
)
def test_the_promised_share_is_kept_up_to_one_misjudged_measurement(fraction, cost, noise):
    costs = [cost * factor for factor in noise]
    budget, _ = simulate(fraction, 2000, 1.0, costs)
    assert budget.spent <= fraction * budget.training + max(costs) + 2


def test_the_budget_is_used_up_not_hoarded():
    budget, measured = simulate(0.05, 4000, 1.0, [30.0] * 100)
    assert budget.overhead == pytest.approx(0.05, abs=0.01)
    # One measurement of 30 steps every 30 / 0.05 steps, once the trial and the first, misjudged one are paid for.
    assert len(measured) == 6
    assert np.diff(measured)[1:] == pytest.approx([600.0] * 4, abs=1)


def test_nothing_is_granted_before_a_trial_or_without_a_budget():
    budget = OverheadBudget(0.05, training=79.0)
    assert not budget.grants_measurement()
    assert not budget.grants_trial(4.0)
    budget.training = 81.0
    assert budget.grants_trial(4.0)
    assert not OverheadBudget(0.0, training=1e9).grants_trial(0.0)


@pytest.mark.parametrize("fraction", [-0.1, float("nan"), float("inf")])
def test_unusable_fractions_are_refused(fraction):
    with pytest.raises(ValueError, match="`overhead_budget`"):
        OverheadBudget(fraction)


@given(
    fraction=st.floats(0.01, 0.3),
    batches=st.integers(1, 1000),
    seconds_per_batch=st.floats(1e-3, 10.0),
    cost=st.floats(0.1, 1000.0),
)
def test_nobody_waits_longer_than_half_the_way_to_a_grant(fraction, batches, seconds_per_batch, cost):
    budget = OverheadBudget(fraction, training=batches * seconds_per_batch)
    wait = budget.batches_until_look(cost, batches)
    missing = cost - budget.accrued
    assert 1 <= wait <= 100
    # What accrues meanwhile is at most half of what is missing, and half a batch of rounding.
    assert wait == 1 or (wait - 0.5) * fraction * seconds_per_batch <= missing / 2 * (1 + 1e-9)


def test_a_training_that_takes_no_time_is_asked_after_every_batch():
    assert OverheadBudget(0.05).batches_until_look(1.0, 10) == 1
