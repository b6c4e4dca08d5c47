"""The shortest expansion that a spectrum needs, by the error that it then makes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.spectral import power_expansion
from lightning_regimes.spectral.cheapest_expansion import gram_singular_values, sufficient_lower
from lightning_regimes.spectral.stages import STAGES


def with_values(values, rows, columns):
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(rows, len(values), generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(columns, len(values), generator=generator, dtype=torch.float64)).Q
    return (left * values) @ right.mT, (left, right)


@given(
    st.lists(st.floats(-4.0, 0.0), min_size=4, max_size=20),
    st.sampled_from([0.0, 0.125, 0.5]),
    st.sampled_from([0.01, 0.03, 0.1]),
    st.floats(-6, 6),
)
@settings(max_examples=40, deadline=None)
def test_the_error_is_below_the_tolerance_and_the_next_shorter_one_misses_it(exponents, power, tolerance, size):
    values = 10 ** torch.tensor(exponents, dtype=torch.float64) * 10**size
    matrix, (left, right) = with_values(values, 24, 30)
    expected = (left * values**power) @ right.mT

    def error(lower):
        found = power_expansion(power, lower=lower)(matrix)
        return float((found - expected).norm() / expected.norm())

    chosen = sufficient_lower(values, power, tolerance=tolerance)
    reaches = sorted(STAGES, reverse=True)
    assert error(chosen) <= tolerance * (1 + 1e-6) or chosen == reaches[-1]
    if chosen != reaches[0]:
        assert error(reaches[reaches.index(chosen) - 1]) > tolerance * (1 - 1e-6)


@pytest.mark.parametrize("shape", [(3, 8, 5), (5, 8), (6, 6)])
def test_singular_values_are_those_of_the_decomposition(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = gram_singular_values(1e-30 * matrix) * matrix.abs().amax(dim=(-2, -1), keepdim=True)[..., 0]
    assert torch.allclose(found.flip(-1), torch.linalg.svdvals(matrix), rtol=1e-9)


def test_the_worst_of_several_matrices_counts_and_null_values_do_not():
    easy, hard = torch.ones(6), torch.logspace(0, -4, 6)
    assert sufficient_lower(torch.stack([easy, hard]), 0.0) == sufficient_lower(hard, 0.0) < sufficient_lower(easy, 0.0)
    assert sufficient_lower(torch.cat([easy, torch.zeros(3)]), 0.0) == sufficient_lower(easy, 0.0)
    assert sufficient_lower(torch.zeros(4), 0.125) == max(STAGES)


@pytest.mark.parametrize("values", [[1.0, float("nan")], [1.0, -1.0]])
def test_what_is_no_singular_value_is_refused(values):
    with pytest.raises(ValueError, match="finite and not negative"):
        sufficient_lower(torch.tensor(values), 0.125)
