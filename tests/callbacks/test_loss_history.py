import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_regimes.callbacks.loss_history import LossHistory


@given(steps=st.integers(1, 3000), capacity=st.integers(2, 64))
def test_kept_losses_are_evenly_spaced_and_belong_to_their_steps(steps, capacity):
    history = LossHistory(capacity)
    for step in range(1, steps + 1):
        history.append(step, torch.tensor(float(step) ** 2))
    kept, losses = history.arrays()
    assert len(kept) <= capacity
    np.testing.assert_array_equal(losses, kept.astype(float) ** 2)
    if steps > capacity:
        assert len(kept) >= capacity // 2
        assert np.unique(np.diff(kept)).size <= 1
        assert kept[-1] > steps - (kept[1] - kept[0] if len(kept) > 1 else steps)


def test_a_restored_history_continues_as_if_uninterrupted():
    straight, first, second = LossHistory(8), LossHistory(8), LossHistory(8)
    for step in range(50):
        loss = torch.tensor(1.0 / (step + 1))
        straight.append(step, loss)
        if step < 20:
            first.append(step, loss)
        if step == 20:
            second.load_state_dict(first.state_dict())
        if step >= 20:
            second.append(step, loss)
    for kept, expected in zip(second.arrays(), straight.arrays(), strict=True):
        np.testing.assert_allclose(kept, expected, rtol=1e-7)


def test_capacity_is_checked():
    with pytest.raises(ValueError, match="`capacity`"):
        LossHistory(1)
