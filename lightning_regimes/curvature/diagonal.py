"""The diagonal of a symmetric operator from its products with random vectors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape
from lightning_regimes.curvature.random_signs import rademacher


@dataclass(frozen=True)
class DiagonalEstimate:
    """A random estimate of a diagonal.

    Attributes:
        values: shape (n,), of the operator's dtype and on its device; unbiased.
        standard_error: shape (n,); estimated standard deviation of ``values``.
        num_matvecs: products with the operator that were spent.
    """

    values: Tensor
    standard_error: Tensor
    num_matvecs: int


def diagonal(operator: LinearOperator, *, num_samples: int = 50, seed: int = 0) -> DiagonalEstimate:
    r"""Estimate the diagonal with vectors of random signs z.

    .. math:: H_{ii} = \operatorname{E}[z_i (H z)_i],
        \quad \operatorname{Var}[z_i (H z)_i] = \sum_{j \ne i} H_{ij}^2

    It is exact for a diagonal operator. The entries are those of the operator's coordinates: for a Hessian, what
    ``probe.unflatten`` shapes like the parameters.

    Args:
        operator: symmetric n × n operator.
        num_samples: products to spend, at least 2.
        seed: of the private generator of random vectors.

    Raises:
        ValueError: fewer than two samples.

    References:
        C. Bekas, E. Kokiopoulou, Y. Saad, An estimator for the diagonal of a matrix, Appl. Numer. Math. 57 (2007),
        doi:10.1016/j.apnum.2007.01.003.
    """
    size = require_symmetric_shape(operator)
    if num_samples < 2:
        raise ValueError(f"`num_samples` must be at least 2, for a standard error, got {num_samples}")
    generator = torch.Generator().manual_seed(seed)
    mean = torch.zeros(size, dtype=operator.dtype, device=operator.device)
    squares = torch.zeros_like(mean)
    with held(operator):
        for count in range(1, num_samples + 1):
            signs = rademacher(operator, (size,), generator)
            sample = signs * (operator @ signs)
            # Welford's recurrence: one pass, and no difference of large sums.
            before = sample - mean
            mean = mean + before / count
            squares = squares + before * (sample - mean)
    return DiagonalEstimate(mean, (squares / (num_samples - 1) / num_samples).sqrt(), num_samples)
