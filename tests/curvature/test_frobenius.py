"""Frobenius norms against matrices with known norms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lightning_regimes.curvature import Estimate, frobenius_norm

MATRIX = torch.randn(80, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MATRIX = MATRIX + MATRIX.T
MATRIX[0, 0] += 60
NORM = float(torch.linalg.matrix_norm(MATRIX))


def test_square_is_unbiased_and_the_standard_error_honest() -> None:
    found = [frobenius_norm(MATRIX, seed=seed) for seed in range(400)]
    squares = np.array([estimate.value**2 for estimate in found])
    assert abs(squares.mean() - NORM**2) <= 4 * squares.std() / math.sqrt(len(squares))
    errors = np.array([estimate.value for estimate in found]) - NORM
    claimed = math.sqrt(np.mean([estimate.standard_error**2 for estimate in found]))
    assert claimed == pytest.approx(math.sqrt(np.mean(errors**2)), rel=0.15)
    assert {estimate.num_matvecs for estimate in found} == {15}


def test_exact_where_nothing_is_left_to_chance() -> None:
    entries = torch.tensor([3.0, -4.0, 12.0])
    assert frobenius_norm(torch.diag(entries)) == Estimate(13.0, 0.0, 15)
    assert frobenius_norm(torch.zeros(4, 4)) == Estimate(0.0, 0.0, 15)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="`num_samples` must be at least 2, for a standard error, got 1"):
        frobenius_norm(MATRIX, num_samples=1)
