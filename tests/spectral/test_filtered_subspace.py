"""Eigenpairs by a filtered subspace are those of dense algebra, with less memory and more products than Lanczos."""

import pytest
import torch

from lightning_regimes.spectral import as_operator, topk


@pytest.mark.parametrize("k", [1, 4, 9])
def test_values_and_vectors_are_those_of_the_matrix(k, with_spectrum):
    eigenvalues = torch.linspace(-0.5, 1, 120, dtype=torch.float64)
    operator, vectors = with_spectrum(eigenvalues)
    found = topk(operator, k, method="chebyshev", tol=1e-6)
    assert found.converged
    assert found.num_matvecs == operator.num_matvecs
    torch.testing.assert_close(found.values, eigenvalues.flip(0)[:k], rtol=1e-9, atol=0)
    wanted = vectors[:, -k:]
    outside = found.vectors - wanted @ (wanted.T @ found.vectors)
    assert float(torch.linalg.matrix_norm(outside, 2)) < 1e-3
    residuals = torch.linalg.vector_norm(operator @ found.vectors - found.vectors * found.values, dim=0)
    torch.testing.assert_close(residuals, found.residuals, rtol=1e-3, atol=1e-9)
    assert -0.5 - 1e-9 <= found.opposite_value < 0


def test_a_multiple_eigenvalue_is_found_as_often_as_it_is_there(with_spectrum):
    eigenvalues = torch.cat([torch.linspace(0, 0.5, 60, dtype=torch.float64), torch.ones(3, dtype=torch.float64)])
    found = topk(with_spectrum(eigenvalues)[0], 3, method="chebyshev")
    torch.testing.assert_close(found.values, torch.ones(3, dtype=torch.float64), rtol=1e-6, atol=0)


def test_vectors_of_a_spectrum_nearby_save_products(with_spectrum):
    eigenvalues = torch.cat(
        [
            torch.rand(90, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
            1 + 0.2 * torch.arange(1, 6, dtype=torch.float64),
        ]
    )
    operator, _ = with_spectrum(eigenvalues.sort().values)
    cold = topk(operator, 5, method="chebyshev", tol=1e-4)
    matrix = operator @ torch.eye(95, dtype=torch.float64)
    nudge = torch.randn(95, 95, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 1e-5
    warm = topk(as_operator(matrix + nudge + nudge.T), 5, method="chebyshev", tol=1e-4, start=cold.vectors)
    assert warm.converged
    assert warm.num_matvecs < cold.num_matvecs


def test_lanczos_is_taken_where_its_basis_fits(with_spectrum):
    operator, _ = with_spectrum(torch.logspace(-3, 0, 100, dtype=torch.float64))
    lanczos = topk(operator, 3)
    assert lanczos.num_matvecs < topk(operator, 3, method="chebyshev").num_matvecs
    small = topk(operator, 3, max_bytes=1000)
    assert small.num_matvecs == topk(operator, 3, method="chebyshev").num_matvecs
    torch.testing.assert_close(small.values, lanczos.values, rtol=1e-5, atol=0)


def test_all_eigenvalues_of_a_small_operator():
    found = topk(as_operator(torch.diag(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64))), 3, method="chebyshev")
    torch.testing.assert_close(found.values, torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64))
    assert found.converged


def test_what_is_out_of_range_is_said(with_spectrum):
    operator, _ = with_spectrum(torch.linspace(1, 2, 10, dtype=torch.float64))
    with pytest.raises(ValueError, match="`method` is one of"):
        topk(operator, 1, method="power")
    with pytest.raises(ValueError, match="`k` must be between"):
        topk(operator, 11)
    with pytest.raises(ValueError, match="`degree` is at least 2"):
        topk(operator, 1, method="chebyshev", degree=1)
