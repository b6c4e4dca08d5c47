from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_regimes.curvature import gap_index


def test_deep_linear_network_splits_at_its_dominant_eigenvalues() -> None:
    # Rank r = 5, depth 3: r^2 dominant values of size 3, (16 + 10 - 2 r) r bulk ones of size 1, the rest zero.
    spectrum = torch.cat([torch.full((25,), 3.0), torch.full((80,), 1.0), torch.zeros(500)])
    assert gap_index(spectrum) == 25
    assert gap_index(spectrum.flip(0)) == 25


@pytest.mark.parametrize("dominance", [5, 10, 50])
def test_quadratic_splits_at_its_block(dominance: float) -> None:
    dominant, bulk = torch.linspace(100, 80, 50), torch.linspace(7, 1, 450) * 80 / dominance / 7
    assert gap_index(torch.cat([dominant, bulk])) == 50


def test_null_space_and_negative_values_are_no_gap() -> None:
    assert gap_index([10.0, 9.0, 4.0, 1e-9, 0.0, -5.0]) == 2
    assert gap_index([10.0, 0.05, 0.0]) == 1
    assert gap_index([0.0, 0.0]) == 0
    assert gap_index([-1.0, -2.0]) == 0


@given(st.lists(st.floats(1, 90), min_size=2, max_size=10), st.integers(-20, 20))
def test_largest_ratio_in_any_unit(values: list[float], exponent: int) -> None:
    ordered = sorted(values, reverse=True)
    ratios = [high / low for high, low in itertools.pairwise(ordered)]
    assert ratios[gap_index(values) - 1] == max(ratios)
    assert gap_index([2.0**exponent * value for value in values]) == gap_index(values)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="non-empty vector of finite numbers"):
        gap_index([])
    with pytest.raises(ValueError, match="finite"):
        gap_index([1.0, float("nan")])
    with pytest.raises(ValueError, match="`floor`"):
        gap_index([1.0], floor=1.0)
