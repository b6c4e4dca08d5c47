"""Rows get the norm that the formula says, whatever they were before."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.optim import row_factors, row_normalize

POWERS = st.floats(0, 1)


def matrix(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@settings(deadline=None)
@given(power=POWERS, seed=st.integers(0, 99))
def test_the_norm_of_a_row_is_a_power_of_what_it_was(power, seed):
    x = matrix(5, 7, seed=seed)
    y = row_normalize(x, power=power)
    torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1) ** power, rtol=1e-12, atol=0)
    torch.testing.assert_close(y / y.norm(dim=1, keepdim=True), x / x.norm(dim=1, keepdim=True), rtol=1e-12, atol=0)


@settings(deadline=None)
@given(power=POWERS, factor=st.floats(1e-6, 1e6), row=st.integers(0, 4))
def test_a_row_scales_by_the_power_and_no_other_row_notices(power, factor, row):
    x = matrix(5, 7)
    scaled = x.clone()
    scaled[row] *= factor
    expected = row_normalize(x, power=power)
    expected[row] *= factor**power
    torch.testing.assert_close(row_normalize(scaled, power=power), expected, rtol=1e-11, atol=0)


def test_power_zero_is_the_normalization_of_torch_and_power_one_the_matrix():
    x = matrix(3, 40, 24, dtype=torch.float32)
    torch.testing.assert_close(row_normalize(x), torch.nn.functional.normalize(x, dim=-1), rtol=1e-6, atol=0)
    assert torch.equal(row_normalize(x, power=1.0), x)


def test_the_matrix_is_the_product_of_what_two_powers_give():
    x = matrix(6, 9)
    torch.testing.assert_close(row_normalize(row_normalize(x, power=0.5), power=0.25), row_normalize(x, power=0.125))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_row_of_zeros_stays_zero_and_a_tiny_one_is_limited_by_eps(dtype):
    x = matrix(3, 8, dtype=dtype)
    x[1] = 0
    y = row_normalize(x)
    assert y.dtype == dtype
    assert torch.equal(y[1], torch.zeros_like(y[1]))
    torch.testing.assert_close(y[0].float().norm(), torch.tensor(1.0), rtol=1e-2, atol=0)
    small = matrix(1, 8) * 1e-6
    torch.testing.assert_close(row_normalize(small, eps=1e-3), small / 1e-3)


def test_half_precision_does_not_overflow_in_the_sum_of_squares():
    y = row_normalize(torch.full((1, 4096), 100.0, dtype=torch.float16))
    torch.testing.assert_close(y.float(), torch.full((1, 4096), 1 / 64), rtol=1e-3, atol=0)


def test_what_is_not_finite_stays_in_its_row():
    x = matrix(3, 4)
    x[1, 2] = torch.inf
    y = row_normalize(x)
    assert y[1].isnan().any()
    assert torch.equal(y[[0, 2]], row_normalize(x[[0, 2]]))


def test_the_factors_are_what_rows_are_multiplied_by():
    x = matrix(2, 5, 7)
    assert torch.equal(x * row_factors(x, power=0.3), row_normalize(x, power=0.3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"power": 1.5}, "`power` must be between 0 and 1, got 1.5"),
        ({"power": float("nan")}, "`power` must be between 0 and 1"),
        ({"eps": 0.0}, "`eps` must be positive"),
        ({"x": torch.ones(3)}, r"got shape \(3,\)"),
        ({"x": torch.ones(3, 3, dtype=torch.complex64)}, "real floating-point numbers, got torch.complex64"),
        ({"x": torch.ones(3, 3, dtype=torch.int64)}, "real floating-point numbers"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    arguments = {"x": torch.ones(3, 3)} | arguments
    with pytest.raises(ValueError, match=message):
        row_normalize(arguments.pop("x"), **arguments)
