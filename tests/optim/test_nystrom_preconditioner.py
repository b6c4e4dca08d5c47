"""The randomized approximation of a matrix, and the conjugate gradients it speeds up, against dense algebra."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.optim import NystromApproximation, nystrom_approximation
from lightning_regimes.optim.truncated_cg import truncated_cg


def symmetric(values: torch.Tensor, *, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    size = values.numel()
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    return (basis * values.double()) @ basis.T


def approximate(matrix: torch.Tensor, rank: int, *, seed: int = 0) -> NystromApproximation:
    return nystrom_approximation(lambda vector: matrix @ vector, matrix[0], rank, seed=seed)


def dense(found: NystromApproximation) -> torch.Tensor:
    return (found.vectors * found.values) @ found.vectors.T


def inverse_preconditioner(found: NystromApproximation, mu: float) -> torch.Tensor:
    identity = torch.eye(found.vectors.shape[0], dtype=found.vectors.dtype)
    return torch.stack([found.precondition(column, mu) for column in identity], dim=1)


def condition_number(matrix: torch.Tensor, inverse: torch.Tensor) -> float:
    values = torch.linalg.eigvals(inverse @ matrix).real
    return float(values.max() / values.min())


# With as many columns as eigenvalues, the random square matrix between them amplifies rounding, with more it does not.
@pytest.mark.parametrize(
    ("dtype", "rank", "tolerance"), [(torch.float64, 5, 1e-10), (torch.float64, 8, 1e-13), (torch.float32, 8, 2e-5)]
)
def test_matrix_of_that_rank_is_found_exactly(dtype: torch.dtype, rank: int, tolerance: float) -> None:
    values = torch.zeros(40)
    values[:5] = torch.tensor([100.0, 10.0, 3.0, 1.0, 0.5])
    matrix = symmetric(values).to(dtype)
    found = approximate(matrix, rank)
    assert torch.linalg.matrix_norm(dense(found) - matrix, 2) < tolerance * 100
    torch.testing.assert_close(found.values[:5], values[:5].to(dtype), rtol=0, atol=100 * tolerance)
    identity = torch.eye(rank, dtype=dtype)
    torch.testing.assert_close(found.vectors.T @ found.vectors, identity, rtol=0, atol=20 * torch.finfo(dtype).eps)


def test_with_a_column_to_spare_nothing_is_left_for_the_conjugate_gradients() -> None:
    values = torch.zeros(40)
    values[:5] = torch.tensor([100.0, 10.0, 3.0, 1.0, 0.5])
    damped = symmetric(values) + 0.01 * torch.eye(40, dtype=torch.float64)
    inverse = inverse_preconditioner(approximate(symmetric(values), 8), 0.01)
    expected = 0.01 * torch.eye(40, dtype=torch.float64)
    torch.testing.assert_close(inverse @ damped, expected, rtol=0, atol=1e-9)
    assert condition_number(damped, inverse) == pytest.approx(1, abs=1e-6)


def test_preconditioner_is_its_formula() -> None:
    matrix = symmetric(torch.logspace(2, -3, 30))
    found = approximate(matrix, 7)
    vectors, values = found.vectors, found.values
    inside = vectors @ torch.diag((values[-1] + 0.1) / (values + 0.1)) @ vectors.T
    expected = inside + torch.eye(30, dtype=torch.float64) - vectors @ vectors.T
    torch.testing.assert_close(inverse_preconditioner(found, 0.1), expected, rtol=0, atol=1e-13)


def test_condition_number_falls_to_what_exact_eigenvectors_allow() -> None:
    values = 1e3 * torch.arange(1, 201, dtype=torch.float64) ** -2.0
    mu = 1e-3
    matrix = symmetric(values)
    damped = matrix + mu * torch.eye(200, dtype=torch.float64)
    before = condition_number(damped, torch.eye(200, dtype=torch.float64))
    assert before == pytest.approx((1e3 + mu) / (values[-1].item() + mu), rel=1e-6)
    found = {rank: condition_number(damped, inverse_preconditioner(approximate(matrix, rank), mu)) for rank in (20, 60)}
    best = {rank: float((values[rank] + mu) / (values[-1] + mu)) for rank in found}
    for rank, condition in found.items():
        assert best[rank] < condition < 4 * best[rank], (before, found, best)
    assert found[60] < 1e-3 * before


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rank=st.integers(1, 12), decay=st.floats(0.0, 3.0))
def test_approximation_of_a_semidefinite_matrix_lies_below_it(seed: int, rank: int, decay: float) -> None:
    matrix = symmetric(torch.arange(1, 11, dtype=torch.float64) ** -decay, seed=seed)
    found = approximate(matrix, rank, seed=seed)
    assert found.values.shape == (min(rank, 10),)
    assert torch.linalg.eigvalsh(matrix - dense(found)).min() > -1e-12
    if rank >= 10:
        torch.testing.assert_close(dense(found), matrix, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_indefinite_matrix_still_gives_a_positive_preconditioner(dtype: torch.dtype) -> None:
    values = torch.cat([torch.logspace(2, -4, 30), -torch.logspace(0, -4, 10)])
    matrix = symmetric(values).to(dtype)
    found = approximate(matrix, 10)
    assert 1 <= found.values.numel() < 10
    assert bool((found.values >= 0).all())
    assert found.values[0] < 101
    inverse = inverse_preconditioner(found, 1e-2).double()
    assert torch.linalg.eigvalsh((inverse + inverse.T) / 2).min() > 0


def test_negative_definite_matrix_gives_no_columns() -> None:
    found = approximate(-torch.eye(6, dtype=torch.float64), 3)
    assert found.vectors.shape == (6, 0)
    vector = torch.arange(6, dtype=torch.float64)
    assert torch.equal(found.precondition(vector, 0.5), vector)


def test_without_curvature_or_damping_nothing_is_changed() -> None:
    found = approximate(torch.zeros(6, 6, dtype=torch.float64), 3)
    vector = torch.arange(6, dtype=torch.float64)
    assert torch.equal(found.precondition(vector, 0.0), vector)
    torch.testing.assert_close(found.precondition(vector, 0.5), vector)


def test_same_seed_same_subspace() -> None:
    matrix = symmetric(torch.logspace(0, -3, 20))
    assert torch.equal(approximate(matrix, 4, seed=3).vectors, approximate(matrix, 4, seed=3).vectors)
    assert not torch.equal(approximate(matrix, 4, seed=3).vectors, approximate(matrix, 4, seed=4).vectors)


def test_wrong_arguments_raise() -> None:
    with pytest.raises(ValueError, match="`rank` must be at least 1, got 0"):
        approximate(torch.eye(3), 0)
    with pytest.raises(ValueError, match="finite"):
        approximate(torch.full((3, 3), torch.nan), 2)


def test_ill_conditioned_system_takes_few_iterations() -> None:
    # Forty large eigenvalues over a million times the rest.
    values = torch.cat([torch.logspace(6, 2, 40), torch.full((160,), 1.0)]).double()
    matrix = symmetric(values)
    right = torch.randn(200, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    approximation = approximate(matrix, 50)
    counts = {}
    for name, precondition in (
        ("plain", lambda vector: vector),
        ("nystrom", lambda vector: approximation.precondition(vector, 0.0)),
    ):
        found = truncated_cg(lambda vector: matrix @ vector, right, precondition, tolerance=1e-8, max_iterations=1000)
        assert not found.negative_curvature
        counts[name] = found.num_products
        error = torch.linalg.vector_norm(matrix @ found.solution - right) / torch.linalg.vector_norm(right)
        assert error.item() == pytest.approx(found.relative_residual, rel=0.5)
        assert error < 1e-8
    assert counts["nystrom"] <= 30, counts
    assert counts["plain"] > 3 * counts["nystrom"], counts


def test_negative_curvature_ends_with_an_ascent_direction() -> None:
    right = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for values, expected in (([-1.0, -1.0, -1.0], 1), ([4.0, 2.0, -0.1], 3)):
        matrix = torch.diag(torch.tensor(values, dtype=torch.float64))
        found = truncated_cg(
            lambda vector, matrix=matrix: matrix @ vector, right, lambda v: v, tolerance=0, max_iterations=9
        )
        assert found.negative_curvature
        assert found.num_products == expected
        assert found.solution @ right > 0
    assert truncated_cg(lambda v: v, 0 * right, lambda v: v, tolerance=0, max_iterations=9).num_products == 0
