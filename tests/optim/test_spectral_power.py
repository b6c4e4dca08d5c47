"""Every method gives the powers of the singular values, and obeys the laws that follow from them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.optim import normalize_power, polar_factor, spectral_power

POWERS = [0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0]
EXACT = ["eigh", "svd"]
METHODS = ["eigh", "svd", "polynomial"]


def gaussian(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def with_values(values, rows, columns, *, dtype=torch.float32, seed=0):
    left = torch.linalg.qr(gaussian(rows, len(values), seed=seed + 1, dtype=torch.float64)).Q
    right = torch.linalg.qr(gaussian(columns, len(values), seed=seed + 2, dtype=torch.float64)).Q
    return ((left * values.double()) @ right.mT).to(dtype)


def spectra(size):
    """The four spectra that momentum matrices resemble: random, of low rank with noise, and two power laws."""
    rank = torch.arange(1, size + 1, dtype=torch.float64)
    low_rank = gaussian(size, 32, seed=3) @ gaussian(32, size, seed=4) / 32**0.5
    return {
        "gaussian": gaussian(size, size),
        "low rank and noise": low_rank + 0.1 * gaussian(size, size, seed=5),
        "1/k": with_values(1 / rank, size, size),
        "1/k^1.5": with_values(rank**-1.5, size, size),
    }


def truth(x, power):
    left, values, right = torch.linalg.svd(x.double(), full_matrices=False)
    return (left * values**power) @ right


def error(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def orthonormality(y):
    y = (y if y.shape[0] <= y.shape[1] else y.mT).double()
    return float((y @ y.mT - torch.eye(len(y))).norm() / len(y) ** 0.5)


@pytest.mark.parametrize("name", spectra(8))
def test_eigh_and_the_polynomial_against_the_singular_value_decomposition(name):
    x = spectra(512)[name]
    exact = truth(x, 1 / 8)
    assert error(spectral_power(x, 1 / 8, method="eigh"), exact) <= 1e-4
    assert error(spectral_power(x, 1 / 8, method="polynomial"), exact) <= 0.03


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 10),
    columns=st.integers(1, 10),
    power=st.floats(0, 1),
    method=st.sampled_from(EXACT),
    seed=st.integers(0, 99),
)
def test_exact_methods_agree_with_the_definition_at_every_power(rows, columns, power, method, seed):
    values = torch.logspace(0, -3, min(rows, columns), dtype=torch.float64)
    x = with_values(values, rows, columns, dtype=torch.float64, seed=seed)
    assert error(spectral_power(x, power, method=method), truth(x, power)) <= 1e-9


@pytest.mark.parametrize("shape", [(64, 64), (40, 96), (96, 40)])
@pytest.mark.parametrize("method", ["auto", *EXACT])
def test_the_polar_factor_is_orthonormal_and_the_nearest(shape, method):
    x = gaussian(*shape)
    y = polar_factor(x, method=method)
    assert orthonormality(y) <= 1e-5
    assert error(y, truth(x, 0)) <= 1e-4


@pytest.mark.parametrize("method", [*METHODS, "streaming"])
def test_the_power_one_is_the_matrix(method):
    x = gaussian(3, 10, 12)
    assert torch.equal(spectral_power(x, 1.0, method=method), x)


@pytest.mark.parametrize("method", [*METHODS, "streaming"])
@pytest.mark.parametrize("power", POWERS)
def test_zeros_stay_zero_also_in_a_stack(method, power):
    x = gaussian(3, 6, 20)
    x[1] = 0
    for normalize in ("none", "schatten", "rms"):
        y = spectral_power(x, power, method=method, normalize=normalize)
        assert torch.equal(y[1], torch.zeros(6, 20))
        assert y.isfinite().all()
        assert y[0].norm() > 0


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("shape", [(30, 30), (24, 64), (64, 24)])
def test_a_matrix_that_lacks_rank_gives_the_partial_polar_factor(method, shape):
    x = gaussian(shape[0], 5, seed=1) @ gaussian(5, shape[1], seed=2)
    y = polar_factor(x, method=method)
    values = torch.linalg.svdvals(y.double())
    torch.testing.assert_close(values[:5], torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-5)
    assert float(values[5:].max()) <= 1e-5
    # A partial isometry whose range is that of the matrix.
    assert error(y @ y.mT @ x, x) <= 1e-5


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=25)
@given(exponent=st.floats(-8, 4), power=st.sampled_from(POWERS))
def test_a_multiple_gives_its_power(method, exponent, power):
    factor = 10.0**exponent
    x = gaussian(12, 16)
    expected = spectral_power(x, power, method=method)
    actual = spectral_power(x * factor, power, method=method) / factor**power
    assert error(actual, expected) <= 2e-6


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 99), power=st.sampled_from(POWERS))
def test_it_commutes_with_transposition_and_rotations(method, seed, power):
    x = gaussian(8, 14, seed=seed)
    y = spectral_power(x, power, method=method)
    assert error(spectral_power(x.mT, power, method=method), y.mT) <= 1e-6
    left = torch.linalg.qr(gaussian(8, 8, seed=seed + 1)).Q
    right = torch.linalg.qr(gaussian(14, 14, seed=seed + 2)).Q
    assert error(spectral_power(left @ x @ right, power, method=method), left @ y @ right) <= 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_a_stack_is_its_matrices(method):
    x = gaussian(2, 3, 10, 14)
    y = spectral_power(x, 1 / 8, method=method)
    for i in range(2):
        for j in range(3):
            assert error(y[i, j], spectral_power(x[i, j], 1 / 8, method=method)) <= 1e-6


@settings(deadline=None, max_examples=30)
@given(
    power=st.floats(1 / 16, 1),
    method=st.sampled_from(METHODS),
    exponent=st.floats(-12, 8),
    seed=st.integers(0, 99),
)
def test_the_schatten_step_is_that_of_steepest_descent(power, method, exponent, seed):
    x = gaussian(9, 13, seed=seed) * 10.0**exponent
    y = spectral_power(x, power, method=method, normalize="schatten").double()
    tolerance = 0.03 if method == "polynomial" else 1e-5
    order = 1 + 1 / power
    values = torch.linalg.svdvals(y)
    largest = values.max()
    norm = float(largest * (values / largest).pow(order).sum().pow(1 / order))
    assert norm == pytest.approx(1, abs=tolerance)
    dual = torch.linalg.svdvals(x.double()).pow(1 + power).sum().pow(1 / (1 + power))
    assert float((x.double() * y).sum()) == pytest.approx(float(dual), rel=tolerance)


@pytest.mark.parametrize("power", [1 / 8, 1 / 2, 1.0])
def test_no_other_matrix_of_that_norm_descends_faster(power):
    x = gaussian(6, 9, dtype=torch.float64)
    best = float((x * spectral_power(x, power, normalize="schatten")).sum())
    order = 1 + 1 / power
    for seed in range(1, 21):
        other = spectral_power(x, power, normalize="schatten") + 0.05 * gaussian(6, 9, seed=seed, dtype=torch.float64)
        other = other / torch.linalg.svdvals(other).pow(order).sum().pow(1 / order)
        assert float((x * other).sum()) < best


def test_the_root_mean_square_is_that_of_a_polar_factor():
    for shape in ((8, 20), (20, 8), (3, 9, 9)):
        for power in POWERS:
            y = spectral_power(gaussian(*shape) * 1e-9, power, normalize="rms")
            rms = y.square().mean(dim=(-2, -1)).sqrt()
            torch.testing.assert_close(rms, torch.full_like(rms, max(shape[-2:]) ** -0.5), rtol=1e-5, atol=0)


def test_normalizing_changes_no_direction_and_nothing_without_a_name():
    x = gaussian(6, 9)
    y = spectral_power(x, 0.25)
    assert torch.equal(normalize_power(y, x, 0.25, normalize="none"), y)
    for normalize in ("schatten", "rms"):
        normalized = normalize_power(y, x, 0.25, normalize=normalize)
        assert error(normalized / normalized.norm(), y / y.norm()) <= 1e-6


def test_a_cpu_takes_the_exact_method_and_keeps_the_dtype():
    x = gaussian(20, 30)
    assert torch.equal(spectral_power(x, 1 / 8), spectral_power(x, 1 / 8, method="eigh"))
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        for method in (*METHODS, "streaming"):
            y = spectral_power(x.to(dtype), 1 / 8, method=method)
            assert y.dtype == dtype
        expected = truth(x.to(dtype), 1 / 8)
        assert error(spectral_power(x.to(dtype), 1 / 8), expected) <= torch.finfo(dtype).eps + 1e-12


def test_smaller_singular_values_are_resolved_on_request():
    x = with_values(torch.logspace(0, -4.5, 64), 64, 64)
    errors = [
        error(spectral_power(x, 1 / 8, method="polynomial", lower=lower), truth(x, 1 / 8))
        for lower in (1e-2, 1e-3, 1e-4, 1e-5)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] <= 0.03 < 0.3 < errors[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"power": 1.01}, "`power` must be between 0 and 1, got 1.01"),
        ({"power": -1e-9}, "`power` must be between 0 and 1"),
        ({"power": float("nan")}, "`power` must be between 0 and 1"),
        ({"method": "qr"}, "`method` is one of auto, polynomial, eigh, svd, streaming, got 'qr'"),
        ({"normalize": "frobenius"}, "`normalize` is one of none, schatten, rms, got 'frobenius'"),
        ({"method": "eigh", "dtype": torch.bfloat16}, "`dtype` is float32 or float64 for method 'eigh'"),
        ({"method": "polynomial", "lower": 2.0}, "`lower` must be between 0 and 1, got 2.0"),
        ({"x": torch.ones(3, 3, dtype=torch.complex64)}, "real floating-point numbers, got torch.complex64"),
        ({"x": torch.ones(3)}, r"got shape \(3,\)"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    arguments = {"x": torch.ones(3, 3), "power": 0.5} | arguments
    with pytest.raises(ValueError, match=message):
        spectral_power(arguments.pop("x"), arguments.pop("power"), **arguments)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("method", ["auto", *METHODS, "streaming"])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_what_is_not_finite_is_an_error(bad, method, power):
    x = gaussian(2, 4, 5)
    x[1, 2, 3] = bad
    with pytest.raises(ValueError, match=r"`(x|matrix)` has finite entries, got 1 of 40 that are not"):
        spectral_power(x, power, method=method)
