"""Eigenpairs against matrices with prescribed spectra."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightning_regimes.curvature import eigsh
from lightning_regimes.probe import ProbeError

Which = Literal["LA", "LM", "SA", "BE"]


def matrix_with(spectrum: np.ndarray, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(generator.standard_normal((len(spectrum), len(spectrum))))
    return torch.from_numpy((vectors * spectrum) @ vectors.T).to(dtype)


def wanted(spectrum: np.ndarray, which: Which, k: int) -> np.ndarray:
    ascending = np.sort(spectrum)
    if which == "SA":
        return ascending[:k]
    if which == "LM":
        return spectrum[np.argsort(-np.abs(spectrum))[:k]]
    if which == "LA":
        return ascending[::-1][:k]
    return np.concatenate([ascending[::-1][: (k + 1) // 2], ascending[: k // 2][::-1]])


BULK = np.random.default_rng(1).standard_normal(300)
INDEFINITE = np.concatenate([[10.0, 8.0, 7.0, -9.0, -7.5, -6.0], BULK])
SPECTRA = {
    "outliers above": np.concatenate([[30.0, 20.0, 12.0, 8.0, 7.0], 1 + np.abs(BULK)]),
    "indefinite": INDEFINITE,
    "negative": -np.geomspace(0.5, 50, 120),
    "clustered": np.concatenate([[5.0, 4.999, 4.998, 3.0], np.linspace(0.3, 1, 100)]),
    "no gap": np.linspace(0, 1, 400),
}


@pytest.mark.parametrize("which", ["LA", "LM", "SA", "BE"])
@pytest.mark.parametrize("name", SPECTRA)
def test_values_and_residuals(name: str, which: Which) -> None:
    spectrum, k = SPECTRA[name], 4
    if name == "no gap" and which in ("SA", "BE"):
        spectrum = spectrum - 0.5  # a relative residual of a value at zero cannot be had
    matrix = matrix_with(spectrum)
    pairs = eigsh(matrix, k, which=which)
    assert pairs.converged
    torch.testing.assert_close(
        pairs.values.double(), torch.from_numpy(wanted(spectrum, which, k).copy()), rtol=1e-5, atol=1e-5
    )
    true_residuals = torch.linalg.vector_norm(
        matrix.double() @ pairs.vectors.double() - pairs.vectors.double() * pairs.values.double(), dim=0
    )
    scale = np.abs(spectrum).max()
    assert bool((true_residuals <= pairs.residuals.double() + 3e-6 * scale).all())
    assert bool((pairs.residuals <= 1e-3 * pairs.values.abs()).all())


@pytest.mark.parametrize("seed", range(5))
def test_vectors_are_orthonormal_with_positive_largest_entry(seed: int) -> None:
    pairs = eigsh(matrix_with(INDEFINITE, seed=seed), 6, which="LM", seed=seed)
    gram = pairs.vectors.T @ pairs.vectors
    torch.testing.assert_close(gram, torch.eye(6), rtol=0, atol=1e-5)
    largest = pairs.vectors.gather(0, pairs.vectors.abs().argmax(0, keepdim=True))
    assert bool((largest > 0).all())


def test_agrees_with_scipy() -> None:
    matrix = matrix_with(INDEFINITE, dtype=torch.float64)
    values, vectors = scipy.sparse.linalg.eigsh(matrix.numpy(), 5, which="LA", tol=1e-12)
    pairs = eigsh(matrix, 5, tol=1e-9)
    np.testing.assert_allclose(pairs.values.numpy(), values[::-1], rtol=1e-12)
    overlap = np.abs(np.sum(pairs.vectors.numpy() * vectors[:, ::-1], axis=0))
    np.testing.assert_allclose(overlap, 1, rtol=1e-8)


@settings(max_examples=40, deadline=None)
@given(
    spectrum=st.lists(st.floats(-100, 100).map(lambda value: round(value, 2)), min_size=1, max_size=12),
    which=st.sampled_from(["LA", "LM", "SA", "BE"]),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_any_small_spectrum(spectrum: list[float], which: Which, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(spectrum)))
    values = np.array(spectrum)
    pairs = eigsh(
        matrix_with(values, seed=seed, dtype=torch.float64), k, which=which, seed=seed, tol=1e-9, certify=True
    )
    assert pairs.converged
    expected, found = wanted(values, which, k), pairs.values.numpy()
    if which == "LM":  # the order of a value and its negative is arbitrary
        expected, found = np.abs(expected), np.abs(found)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("certify", [False, True])
def test_all_pairs_of_a_small_matrix(certify: bool) -> None:
    spectrum = np.array([3.0, 1.0, 0.5, 0.0, -2.0])
    pairs = eigsh(matrix_with(spectrum), 5, certify=certify)
    assert pairs.converged
    assert pairs.num_matvecs == 5
    np.testing.assert_allclose(pairs.values.numpy(), spectrum, atol=1e-6)


@pytest.mark.parametrize("certify", [False, True])
def test_zero_operator(certify: bool) -> None:
    pairs = eigsh(torch.zeros(40, 40), 3, certify=certify)
    assert pairs.converged
    assert bool((pairs.values == 0).all())
    torch.testing.assert_close(pairs.vectors.T @ pairs.vectors, torch.eye(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certify_finds_multiplicities(dtype: torch.dtype) -> None:
    spectrum = np.concatenate([np.full(7, 4.0), np.full(5, 3.9), np.full(3, -8.0), np.linspace(0, 1, 85)])
    matrix = matrix_with(spectrum, dtype=dtype)
    for which, k in (("LA", 12), ("LM", 10), ("SA", 3), ("BE", 6)):
        pairs = eigsh(matrix, k, which=which, certify=True)  # type: ignore[arg-type]
        assert pairs.converged
        np.testing.assert_allclose(pairs.values.numpy(), wanted(spectrum, which, k), rtol=1e-3)  # type: ignore[arg-type]


def test_a_multiple_value_counts_once_without_certify() -> None:
    matrix = matrix_with(np.concatenate([np.full(7, 4.0), np.ones(93)]), dtype=torch.float64)
    assert float(eigsh(matrix, 3).values[2]) < 1.01
    certified = eigsh(matrix, 3, certify=True)
    np.testing.assert_allclose(certified.values.numpy(), [4, 4, 4], rtol=1e-6)


def test_opposite_end_is_resolved_on_request() -> None:
    spectrum = np.concatenate([[50.0, 40.0, 30.0, 20.0], np.linspace(-3, 5, 500)])
    matrix = matrix_with(spectrum)
    plain = eigsh(matrix, 2)
    assert plain.opposite_value >= -3 - 1e-4
    assert abs(plain.opposite_value + 3) <= plain.opposite_residual + 3
    resolved = eigsh(matrix, 2, resolve_opposite=True)
    assert resolved.converged
    assert resolved.opposite_residual <= 1e-3 * 50
    assert resolved.opposite_value == pytest.approx(-3, abs=0.05)
    assert resolved.num_matvecs > plain.num_matvecs
    assert eigsh(matrix, 2, which="SA", resolve_opposite=True).opposite_value == pytest.approx(50, rel=1e-5)
    assert eigsh(-matrix, 2, which="LM", resolve_opposite=True).opposite_value == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize("start_columns", [1, 4])
def test_warm_start_saves_products_and_finds_new_values(start_columns: int) -> None:
    matrix = matrix_with(SPECTRA["outliers above"])
    cold = eigsh(matrix, 4)
    start = cold.vectors[:, 0] if start_columns == 1 else cold.vectors
    warm = eigsh(matrix, 4, start=start)
    torch.testing.assert_close(warm.values, cold.values, rtol=1e-5, atol=0)
    assert warm.num_matvecs <= cold.num_matvecs + 1
    # The old eigenvectors are exact ones of the new matrix, whose largest value has another vector.
    newcomer = eigsh(matrix, 5).vectors[:, 4]
    crossed = matrix + 100 * torch.outer(newcomer, newcomer)
    tracked = eigsh(crossed, 1, start=cold.vectors)
    assert float(tracked.values[0]) == pytest.approx(107, rel=1e-3)


def test_start_that_the_operator_suggests() -> None:
    matrix = matrix_with(SPECTRA["outliers above"])
    leading = eigsh(matrix, 4).vectors

    class Suggesting:
        shape, dtype, device = (305, 305), torch.float32, torch.device("cpu")

        def __matmul__(self, vector: Tensor) -> Tensor:
            return matrix @ vector

        def start_vector(self) -> Tensor:
            return leading.sum(1)

    suggested, given = eigsh(Suggesting(), 4), eigsh(matrix, 4, start=leading.sum(1))
    assert torch.equal(suggested.vectors, given.vectors)
    # It leans towards the wrong end for the smallest values, and is not used there.
    assert torch.equal(eigsh(Suggesting(), 2, which="SA").vectors, eigsh(matrix, 2, which="SA").vectors)


def test_restart_in_a_small_basis_reaches_the_same_values() -> None:
    matrix = matrix_with(SPECTRA["no gap"], dtype=torch.float64)
    small = eigsh(matrix, 4, basis_size=16, resolve_opposite=True)
    assert small.converged
    np.testing.assert_allclose(small.values.numpy(), wanted(SPECTRA["no gap"], "LA", 4), rtol=1e-5)


def test_budget_ends_the_search_honestly() -> None:
    pairs = eigsh(matrix_with(SPECTRA["no gap"]), 4, max_matvecs=20)
    assert pairs.num_matvecs == 20
    assert not pairs.converged
    assert float(pairs.residuals.max()) > 1e-3
    assert eigsh(matrix_with(SPECTRA["no gap"]), 4, max_matvecs=4).values.shape == (4,)


def test_certificate_that_the_budget_cut_short_does_not_count() -> None:
    matrix = matrix_with(SPECTRA["outliers above"])
    plain, certified = eigsh(matrix, 4), eigsh(matrix, 4, certify=True)
    assert plain.num_matvecs < certified.num_matvecs
    for budget in range(plain.num_matvecs, certified.num_matvecs):
        assert not eigsh(matrix, 4, certify=True, max_matvecs=budget).converged
    assert eigsh(matrix, 4, certify=True, max_matvecs=certified.num_matvecs).converged


def test_operator_that_is_not_symmetric_does_not_converge() -> None:
    matrix = matrix_with(INDEFINITE)
    skewed = matrix + 0.3 * torch.triu(torch.ones_like(matrix), 1) * matrix.abs().max()
    pairs = eigsh(skewed, 3)
    assert not pairs.converged
    true_residuals = torch.linalg.vector_norm(skewed @ pairs.vectors - pairs.vectors * pairs.values, dim=0)
    torch.testing.assert_close(pairs.residuals, true_residuals, rtol=1e-3, atol=1e-3)


def test_global_generator_is_left_alone() -> None:
    matrix = matrix_with(INDEFINITE)
    state = torch.get_rng_state()
    first = eigsh(matrix, 2, certify=True)
    assert torch.equal(torch.get_rng_state(), state)
    torch.randn(5)
    assert torch.equal(eigsh(matrix, 2, certify=True).vectors, first.vectors)


def test_arguments_are_checked() -> None:
    matrix = torch.eye(30)
    with pytest.raises(ValueError, match="`k` must be between 1 and the size of the operator, 30, got 31"):
        eigsh(matrix, 31)
    with pytest.raises(ValueError, match="`k` must be"):
        eigsh(matrix, 0)
    with pytest.raises(ValueError, match="`which` is one of LA, LM, SA, BE, got 'XX'"):
        eigsh(matrix, 1, which="XX")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`tol`"):
        eigsh(matrix, 1, tol=0.0)
    with pytest.raises(ValueError, match="`max_matvecs` must be at least `k`=3, got 2"):
        eigsh(matrix, 3, max_matvecs=2)
    with pytest.raises(ValueError, match="`basis_size` must be at least k"):
        eigsh(matrix, 3, basis_size=10)
    with pytest.raises(ValueError, match=r"`start` must have shape \(30,\) or \(30, p\), got \(29,\)"):
        eigsh(matrix, 1, start=torch.ones(29))
    with pytest.raises(ValueError, match="not finite"):
        eigsh(matrix, 1, start=torch.full((30,), float("nan")))
    with pytest.raises(ValueError, match="square"):
        eigsh(torch.ones(3, 4), 1)
    with pytest.raises(ValueError, match="real floating dtype"):
        eigsh(torch.eye(3, dtype=torch.complex64), 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_products_that_are_not_finite(bad: float) -> None:
    matrix = torch.eye(20)
    matrix[3, 3] = bad
    with pytest.raises(ProbeError, match="not finite"):
        eigsh(matrix, 2)
