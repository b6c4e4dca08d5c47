"""Diagonal estimates against matrices with known diagonals."""

from __future__ import annotations

import pytest
import torch

from lightning_regimes.curvature import diagonal

MATRIX = torch.randn(60, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MATRIX = MATRIX + MATRIX.T + torch.diag(torch.linspace(-20, 40, 60, dtype=torch.float64))


def test_unbiased_with_the_variance_of_the_entries_beside_it() -> None:
    found = [diagonal(MATRIX, num_samples=10, seed=seed) for seed in range(400)]
    values = torch.stack([estimate.values for estimate in found])
    expected = (MATRIX.square().sum(1) - MATRIX.diagonal().square()) / 10
    deviations = (values.mean(0) - MATRIX.diagonal()) / (expected / 400).sqrt()
    assert float(deviations.abs().max()) <= 4
    assert float(deviations.square().mean()) == pytest.approx(1, abs=0.6)
    claimed = torch.stack([estimate.standard_error for estimate in found]).square().mean(0)
    torch.testing.assert_close(claimed, expected, rtol=0.15, atol=0)
    assert {estimate.num_matvecs for estimate in found} == {10}


def test_exact_for_a_diagonal_operator() -> None:
    entries = torch.linspace(-3, 1e4, 50)
    found = diagonal(torch.diag(entries), num_samples=7)
    torch.testing.assert_close(found.values, entries)
    assert found.values.dtype == torch.float32
    assert float(found.standard_error.max()) <= 1e-3


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="`num_samples` must be at least 2, for a standard error, got 1"):
        diagonal(MATRIX, num_samples=1)
