"""The matrix function is the scalar function of the singular values, in either form, at the cost that is stated."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_regimes.spectral import OddExpansion, power_expansion
from lightning_regimes.spectral.gram_form import segment_lengths
from lightning_regimes.spectral.odd_expansion import resolution

# Two stages that are far from any optimum, so that each iterate counts.
PLAIN = OddExpansion([(2.0, -1.5, 0.5), (1.8, -1.2, 0.4)], [0.3, 0.5, -0.2], degree=0.25)


def matrix(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def of_singular_values(expansion, x):
    left, values, right = torch.linalg.svd(x.double(), full_matrices=False)
    scale = values.pow(8).sum().pow(1 / 8)
    return (left * expansion.scalar(values / scale) * scale**expansion.degree) @ right


def error(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


class CountedProducts(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").rstrip("_").split(".")[0].rstrip("_")
        if name in ("mm", "bmm", "addmm", "baddbmm"):
            left, right = args[-2:]
            self.shapes.append((left.shape[-2], left.shape[-1], right.shape[-1]))
        return function(*args, **(kwargs or {}))


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 12), columns=st.integers(1, 12), gram=st.booleans(), seed=st.integers(0, 99))
def test_it_is_the_scalar_function_of_the_singular_values(rows, columns, gram, seed):
    x = matrix(rows, columns, seed=seed)
    assert error(PLAIN(x, gram=gram), of_singular_values(PLAIN, x)) <= 1e-12


def test_the_scalar_function_is_the_iteration():
    sigma = 0.7
    first = sigma * (2.0 - 1.5 * sigma**2 + 0.5 * sigma**4)
    second = first * (1.8 - 1.2 * first**2 + 0.4 * first**4)
    expected = 0.3 * sigma + 0.5 * first - 0.2 * second
    assert float(PLAIN.scalar(torch.tensor(sigma, dtype=torch.float64))) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("shape", [(48, 48), (40, 160), (160, 40)])
@pytest.mark.parametrize("gram", [False, True])
def test_float32_follows_the_scalar_function_down_to_singular_values_of_rounding(shape, gram):
    expansion = power_expansion(0.125)
    size = min(shape)
    left = torch.linalg.qr(matrix(shape[0], size, seed=1)).Q
    right = torch.linalg.qr(matrix(shape[1], size, seed=2)).Q
    x = ((left * torch.logspace(0, -4, size, dtype=torch.float64)) @ right.mT).float()
    assert error(expansion(x, gram=gram), of_singular_values(expansion, x)) <= 2e-3


@pytest.mark.parametrize("shape", [(32, 128), (64, 64)])
@pytest.mark.parametrize("lower", [1e-2, 1e-4])
def test_a_matrix_that_lacks_rank_neither_diverges_nor_gains_any(shape, lower):
    expansion = power_expansion(0.0, lower=lower)
    x = (matrix(shape[0], 3, seed=1) @ matrix(3, shape[1], seed=2)).float()
    y = expansion(x, gram=True)
    assert error(y, of_singular_values(expansion, x)) <= 2e-3
    assert float(torch.linalg.svdvals(y.double())[3]) <= 0.01


@pytest.mark.parametrize("shape", [(16, 16), (16, 31), (16, 32), (80, 16)])
@pytest.mark.parametrize("lower", [1e-2, 1e-4])
@pytest.mark.parametrize("gram", [None, False, True])
def test_products_are_counted(shape, lower, gram):
    expansion = power_expansion(0.125, lower=lower)
    with CountedProducts() as counted:
        expansion(matrix(*shape, dtype=torch.float32), gram=gram)
    long, short = expansion.num_products(shape, gram=gram)
    assert len(counted.shapes) == long + short == expansion.num_matmuls(shape, gram=gram)
    if max(shape) > 16:
        assert sum(shape == (16, 16, 16) for shape in counted.shapes) == short


def test_the_gram_form_saves_multiplications_where_it_is_the_default():
    expansion = power_expansion(0.125)
    assert expansion.num_matmuls((512, 512)) == 3 * len(expansion.stages)
    for ratio, share in ((2, 0.91), (4, 0.65), (8, 0.5)):
        multiplications = {}
        for gram in (False, True, None):
            long, short = expansion.num_products((100, 100 * ratio), gram=gram)
            multiplications[gram] = ratio * long + short
        assert multiplications[None] == multiplications[True] <= share * multiplications[False]
    assert expansion.num_products((100, 400), dtype=torch.bfloat16) == expansion.num_products((100, 400), gram=False)


def test_a_segment_is_as_long_as_rounding_allows():
    eight, five = power_expansion(0.125).stages, power_expansion(0.125, lower=1e-2).stages
    assert segment_lengths(five, torch.finfo(torch.float32).eps) == [5]
    assert segment_lengths(eight, torch.finfo(torch.float32).eps) == [4, 4]
    assert segment_lengths(eight, torch.finfo(torch.float64).eps) == [8]
    assert segment_lengths(eight, torch.finfo(torch.bfloat16).eps) is None


@pytest.fixture
def tf32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision(before)


def test_tf32_does_not_resolve_a_gram_matrix(tf32):
    assert resolution(torch.float32, torch.device("cuda")) == 2**-10
    assert resolution(torch.float32, torch.device("cpu")) == 2**-23
    assert resolution(torch.float64, torch.device("cuda")) == 2**-52
    assert segment_lengths(power_expansion(0.125).stages, 2**-10) is None


def test_float32_is_itself_by_default():
    assert resolution(torch.float32, torch.device("cuda")) == 2**-23


@pytest.mark.parametrize("gram", [False, True])
@settings(deadline=None, max_examples=25)
@given(exponent=st.floats(-8, 4), power=st.sampled_from([0.0, 0.125, 0.5, 1.0]))
def test_a_multiple_gives_its_power(gram, exponent, power):
    factor = 10.0**exponent
    expansion = power_expansion(power)
    x = matrix(12, 30, dtype=torch.float32)
    assert error(expansion(x * factor, gram=gram) / factor**power, expansion(x, gram=gram)) <= 2e-6


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 99), gram=st.booleans())
def test_it_commutes_with_rotations_and_transposition(seed, gram):
    expansion = power_expansion(0.125)
    x = matrix(8, 14, seed=seed, dtype=torch.float32)
    left = torch.linalg.qr(matrix(8, 8, seed=seed + 1)).Q.float()
    right = torch.linalg.qr(matrix(14, 14, seed=seed + 2)).Q.float()
    assert error(expansion(left @ x @ right, gram=gram), left @ expansion(x, gram=gram) @ right) <= 1e-5
    assert error(expansion(x.mT, gram=gram), expansion(x, gram=gram).mT) <= 1e-6


@pytest.mark.parametrize("power", [0.0, 0.125, 0.5])
@pytest.mark.parametrize("shape", [(32, 32), (256, 256), (3, 40, 40), (20, 50)])
def test_a_matrix_and_its_transpose_take_the_same_products(shape, power):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(4))
    expansion = power_expansion(power)
    assert torch.equal(expansion(matrix.mT), expansion(matrix).mT)


@pytest.mark.parametrize("shape", [(2, 3, 10, 12), (2, 3, 30, 8)])
def test_a_stack_is_its_matrices(shape):
    expansion = power_expansion(0.25)
    x = matrix(*shape, dtype=torch.float32)
    x[0, 1] *= 1e-6
    x[1, 2] = 0
    y = expansion(x)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(y[i, j], expansion(x[i, j]), rtol=0, atol=1e-6 * float(y[i, j].abs().max()))
    assert torch.equal(y[1, 2], torch.zeros(shape[-2:]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_for_the_products_and_not_for_the_scale(dtype):
    expansion = power_expansion(0.125)
    x = matrix(48, 64, dtype=torch.float32)
    exact = of_singular_values(expansion, x)
    assert error(expansion(x, dtype=dtype), exact) <= (0.02 if dtype == torch.bfloat16 else 0.002)
    assert error(expansion(x * 1e-7, dtype=dtype) * 1e7**0.125, exact) <= (0.02 if dtype == torch.bfloat16 else 0.002)
    assert torch.equal(expansion(x.to(dtype)), expansion(x.to(dtype).float()).to(dtype))


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (0, 3, 5), (1, 1)])
def test_empty_and_single_entries_are_matrices(shape):
    x = torch.full(shape, -3.0)
    y = power_expansion(0.5)(x)
    assert y.shape == x.shape
    torch.testing.assert_close(y, torch.full(shape, -(3.0**0.5)), rtol=0.03, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: OddExpansion([], [1.0]), "`stages` is at least one triple"),
        (lambda: OddExpansion([(1.0, 2.0)], [1.0, 1.0]), "`stages` is at least one triple"),
        (lambda: OddExpansion([(1.0, 2.0, 3.0)], [1.0]), "one entry more than 1 stages, got 1"),
        (lambda: PLAIN(torch.tensor([[1.0, torch.inf]])), "`matrix` has finite entries, got 1 of 2"),
        (lambda: PLAIN(torch.ones(2, 2, dtype=torch.complex128)), "`matrix` holds real floating-point numbers"),
        (lambda: PLAIN(torch.ones(2)), r"got shape \(2,\)"),
        (lambda: PLAIN(torch.ones(2, 4), dtype=torch.bfloat16, gram=True), "`gram` needs products in float32"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
