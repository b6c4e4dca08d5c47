"""The iteration is that of torch's Muon, at any scale and for stacks."""

import pytest
import torch
from torch.optim._muon import _zeropower_via_newtonschulz

from lightning_regimes.optim import newton_schulz


def matrix(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (32, 32)])
def test_in_bfloat16_it_is_that_of_torch(shape):
    x = matrix(*shape)
    expected = _zeropower_via_newtonschulz(x, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    torch.testing.assert_close(newton_schulz(x, dtype=torch.bfloat16), expected.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_each_singular_value_follows_the_polynomial(shape):
    x = matrix(*shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    values = values / values.norm()
    for _ in range(3):
        values = 2 * values - 1.5 * values**3 + 0.5 * values**5
    expected = (left * values) @ right
    torch.testing.assert_close(newton_schulz(x, steps=3, coefficients=(2.0, -1.5, 0.5)), expected)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_scale_does_not_matter(scale, dtype):
    x = matrix(16, 24)
    torch.testing.assert_close(
        newton_schulz(x * scale, dtype=dtype),
        newton_schulz(x, dtype=dtype),
        rtol=0,
        atol=1e-5 if dtype == torch.float32 else 5e-3,
    )


def test_a_stack_is_its_matrices_and_zeros_stay_zero():
    x = matrix(2, 3, 8, 12)
    x[1, 2] = 0
    y = newton_schulz(x)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(y[i, j], newton_schulz(x[i, j]), rtol=0, atol=1e-6)
    assert torch.equal(y[1, 2], torch.zeros(8, 12))


def test_the_result_has_the_dtype_of_the_matrix_and_a_cpu_computes_in_float32():
    x = matrix(8, 8, dtype=torch.bfloat16)
    y = newton_schulz(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, newton_schulz(x.float()).bfloat16())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": -1}, "`steps` must not be negative, got -1"),
        ({"x": torch.tensor([[1.0, torch.nan]])}, "`x` has finite entries, got 1 of 2 that are not"),
        ({"x": torch.ones(2, 2, dtype=torch.complex64)}, "real floating-point"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    arguments = {"x": torch.ones(3, 3)} | arguments
    with pytest.raises(ValueError, match=message):
        newton_schulz(arguments.pop("x"), **arguments)
