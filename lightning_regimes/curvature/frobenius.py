"""The Frobenius norm of a symmetric operator from its products with random vectors."""

from __future__ import annotations

import math

import torch

from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape
from lightning_regimes.curvature.random_signs import rademacher
from lightning_regimes.curvature.trace import Estimate, mean_and_error


def frobenius_norm(operator: LinearOperator, *, num_samples: int = 15, seed: int = 0) -> Estimate:
    r"""Estimate the Frobenius norm, the root of the sum of the squared eigenvalues, with vectors of random signs z.

    .. math:: \|H\|_F^2 = \operatorname{E} \|H z\|^2

    The square of the estimate is unbiased; the estimate itself is low by about half its squared relative standard
    error, relatively. The standard error of the root follows from that of the square to first order.

    Args:
        operator: symmetric n × n operator.
        num_samples: products to spend, at least 2.
        seed: of the private generator of random vectors.

    Raises:
        ValueError: fewer than two samples.
    """
    size = require_symmetric_shape(operator)
    if num_samples < 2:
        raise ValueError(f"`num_samples` must be at least 2, for a standard error, got {num_samples}")
    generator = torch.Generator().manual_seed(seed)
    with held(operator):
        squares = [
            float((operator @ rademacher(operator, (size,), generator)).square().sum(dtype=torch.float64))
            for _ in range(num_samples)
        ]
    square, error = mean_and_error(squares)
    norm = math.sqrt(square)
    return Estimate(value=norm, standard_error=error / (2 * norm) if norm > 0 else 0.0, num_matvecs=num_samples)
