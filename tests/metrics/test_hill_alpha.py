"""The exponent of spectral tails against distributions that have one, and against scipy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lightning_regimes.metrics import HillAlpha, eigenvalue_tail, power_law_tail, singular_values
from lightning_regimes.optim import spectral_power


def matrix(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Entries of a heavy tail, so that the spectrum has one."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator, dtype=torch.float64) ** 3).to(dtype)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 5.0])
def test_pareto_samples_have_their_exponent(exponent: float) -> None:
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(20_000, generator=generator, dtype=torch.float64)
    tail = power_law_tail((1 - uniform) ** (-1 / (exponent - 1)))
    assert tail.alpha == pytest.approx(exponent, abs=0.1)
    assert tail.num_tail == 10_000
    assert tail.distance < 0.02


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=40, unique=True))
def test_it_is_the_maximum_likelihood_and_the_distance_that_scipy_finds(values: list[float]) -> None:
    tail = power_law_tail(torch.tensor(values, dtype=torch.float64))
    upper = np.sort(values)[len(values) // 2 :]
    assert tail.lower == upper[0]
    shape, _, _ = stats.pareto.fit(upper, floc=0, fscale=upper[0])
    assert tail.alpha - 1 == pytest.approx(shape, rel=1e-6)
    # The distance to the empirical distribution function from below, its values before each step.
    below = np.abs(stats.pareto.cdf(upper, tail.alpha - 1, scale=upper[0]) - np.arange(len(upper)) / len(upper)).max()
    assert tail.distance == pytest.approx(below, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("method", ["eigh", "svd"])
@pytest.mark.parametrize("power", [0.125, 0.5])
@pytest.mark.parametrize("shape", [(40, 40), (30, 70), (70, 30)])
def test_powers_of_singular_values_divide_the_exponent(shape: tuple[int, int], power: float, method: str) -> None:
    weight = matrix(1, *shape)
    before = eigenvalue_tail(weight).alpha - 1
    after = eigenvalue_tail(spectral_power(weight, power, method=method)).alpha - 1  # type: ignore[arg-type]
    assert after == pytest.approx(before / power, rel=1e-4)


def test_eigenvalues_are_those_of_the_gram_matrix() -> None:
    weight = matrix(2, 12, 3, 2, 2)
    flat = weight.reshape(12, 12).numpy()
    eigenvalues = np.linalg.eigvalsh(flat @ flat.T)
    tail = eigenvalue_tail(weight)
    assert tail.num_values == 12
    assert tail.alpha == pytest.approx(1 + 6 / np.log(eigenvalues[6:] / eigenvalues[6]).sum(), rel=1e-9)
    assert tail == eigenvalue_tail(weight.reshape(12, 12))
    rotated = torch.complex(torch.zeros_like(weight), weight)
    assert eigenvalue_tail(rotated).alpha == pytest.approx(tail.alpha, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_errors_are_no_singular_values(dtype: torch.dtype) -> None:
    factor = matrix(3, 30, 5)
    low_rank = (factor @ matrix(4, 5, 40)).to(torch.float32)
    assert len(singular_values(low_rank)) == 5
    assert eigenvalue_tail(low_rank).num_tail == 3
    assert len(singular_values(matrix(5, 8, 8, dtype=dtype))) == 8


def test_tails_without_a_law() -> None:
    equal = power_law_tail(torch.ones(4))
    assert equal.alpha == math.inf
    assert math.isnan(equal.distance)
    assert power_law_tail(torch.tensor([1.0, 2.0, 4.0]), lower=1.0).alpha == pytest.approx(1 + 3 / math.log(8))
    for values, message in (
        (torch.tensor([1.0, -1.0]), "finite and not negative"),
        (torch.tensor([1.0, math.nan]), "finite and not negative"),
        (torch.tensor([1.0, 0.0, 0.0]), "two positive values or more, got 1 of 1"),
    ):
        with pytest.raises(ValueError, match=message):
            power_law_tail(values)
    for weight, message in (
        (torch.ones(3), "`matrix` has two dimensions"),
        (torch.ones(3, 3, dtype=torch.int64), "`matrix` has two dimensions"),
        (torch.full((3, 3), math.inf), "`matrix` has finite entries"),
        (torch.zeros(3, 3), "got 0 of 0"),
        (torch.zeros(0, 3), "got 0 of 0"),
    ):
        with pytest.raises(ValueError, match=message):
            eigenvalue_tail(weight)


def test_metric_is_the_mean_over_weights() -> None:
    metric = HillAlpha()
    weights = [matrix(seed, 10, 20, dtype=torch.float32) for seed in range(3)]
    single = [float(metric(weight)) for weight in weights]
    assert single == [eigenvalue_tail(weight).alpha for weight in weights]
    assert float(metric.compute()) == pytest.approx(np.mean(single), rel=1e-14)
    metric.reset()
    with pytest.warns(UserWarning, match="before"), pytest.raises(ValueError, match="call `update` first"):
        metric.compute()


@pytest.mark.peer
def test_weightwatcher_finds_the_same_exponent_from_the_same_bound() -> None:
    weightwatcher = pytest.importorskip("weightwatcher")
    module = torch.nn.Sequential(torch.nn.Linear(80, 60), torch.nn.Linear(60, 70))
    for index, layer in enumerate(module):
        layer.weight.data = matrix(index, *layer.weight.shape, dtype=torch.float32)  # type: ignore[union-attr]
    details = weightwatcher.WeightWatcher(model=module).analyze(min_evals=10)
    assert len(details) == 2
    for layer, row in zip(module, details.itertuples(), strict=True):
        eigenvalues = singular_values(layer.weight).square()  # type: ignore[arg-type]
        tail = power_law_tail(eigenvalues, lower=float(row.xmin) * (1 - 1e-6))
        assert tail.alpha == pytest.approx(row.alpha, rel=1e-3)
        assert tail.num_tail == row.num_pl_spikes
