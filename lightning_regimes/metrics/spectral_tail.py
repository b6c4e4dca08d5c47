"""How heavy the tail of a spectrum is: the exponent of a power law, by Hill's estimator."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class PowerLawTail:
    r"""A power law :math:`\rho(\lambda) \propto \lambda^{-\alpha}` for the upper part of some values.

    Attributes:
        alpha: α; lower is heavier. Infinite where all values of the tail are equal.
        lower: where the tail begins.
        distance: Kolmogorov–Smirnov distance between the tail and the power law, from 0 to 1; NaN for infinite α.
        num_tail: number of values in the tail.
        num_values: number of positive values.
    """

    alpha: float
    lower: float
    distance: float
    num_tail: int
    num_values: int


def power_law_tail(values: Tensor, *, lower: float | None = None) -> PowerLawTail:
    r"""Fit a power law to the larger half of positive values, or to those from a bound on.

    For N values in ascending order, the tail begins at the one of index :math:`i = \lfloor N / 2 \rfloor` and has
    :math:`n = N - i` of them:

    .. math:: \alpha = 1 + \frac{n}{\sum_{j \ge i} \ln (\lambda_j / \lambda_i)}, \qquad
        D = \max_k \Bigl|1 - (\lambda_{i + k} / \lambda_i)^{1 - \alpha} - \frac{k}{n}\Bigr|

    which is Hill's estimator, the maximum likelihood of a Pareto distribution. Powers of the values have the exponent
    :math:`1 + (\alpha - 1) / p`, exactly.

    Args:
        values: not negative, any shape; zeros are left out.
        lower: where the tail begins instead; at least two values must reach it.

    Raises:
        ValueError: values are negative, not finite, or fewer than two are in the tail.

    References:
        B. M. Hill, A simple general approach to inference about the tail of a distribution, Ann. Statist. 3 (1975);
        C. H. Martin, T. Peng, M. W. Mahoney, Predicting trends in the quality of state-of-the-art neural networks
        without access to training or testing data, arXiv:2002.06716, for spectra of weights.
    """
    flat = values.detach().double().reshape(-1)
    if not bool((torch.isfinite(flat) & (flat >= 0)).all()):
        raise ValueError("`values` are finite and not negative, got some that are not")
    positive = flat[flat > 0].sort().values
    start = len(positive) // 2 if lower is None else int(torch.searchsorted(positive, lower))
    tail = positive[start:]
    if len(tail) < 2:
        raise ValueError(f"a tail takes two positive values or more, got {len(tail)} of {len(positive)}")
    logarithms = (tail / tail[0] if lower is None else tail / lower).log()
    total = float(logarithms.sum())
    alpha = 1 + len(tail) / total if total > 0 else math.inf
    distance = math.nan
    if math.isfinite(alpha):
        ranks = torch.arange(len(tail), dtype=torch.float64, device=tail.device) / len(tail)
        distance = float((1 - (logarithms * (1 - alpha)).exp() - ranks).abs().max())
    begin = float(tail[0]) if lower is None else float(lower)
    return PowerLawTail(alpha, begin, distance, len(tail), len(positive))


def singular_values(matrix: Tensor) -> Tensor:
    """Return the singular values of a weight, descending, float64, without those that are zero by rounding.

    A weight of more than two dimensions, such as that of a convolution, is the matrix (out, everything else).

    Args:
        matrix: two dimensions or more; rounding is that of its dtype, of float32 for half precision.

    Raises:
        ValueError: it is no matrix, or not finite.
    """
    if matrix.ndim < 2 or not (matrix.is_floating_point() or matrix.is_complex()):
        raise ValueError(
            f"`matrix` has two dimensions or more of numbers, got shape {tuple(matrix.shape)} of {matrix.dtype}"
        )
    flat = matrix.detach().flatten(1)
    if not bool(torch.isfinite(flat).all()):
        raise ValueError("`matrix` has finite entries, got some that are not")
    if flat.device.type == "mps":  # has no float64
        flat = flat.cpu()
    values: Tensor = torch.linalg.svdvals(flat.to(torch.complex128 if flat.is_complex() else torch.float64))
    if not len(values):
        return values
    # What rounding of the entries makes of a zero; weights in half precision are what they are.
    eps = min(torch.finfo(matrix.dtype).eps, torch.finfo(torch.float32).eps)
    return values[values > eps * torch.linalg.vector_norm(values)]


def eigenvalue_tail(matrix: Tensor) -> PowerLawTail:
    r"""Fit a power law to the larger half of the eigenvalues of :math:`W W^T`, the squares of the singular values.

    For a weight with heavy-tailed eigenvalues α lies between 2 and 6, roughly; Gaussian entries have a larger one.

    Args:
        matrix: W, see :func:`singular_values`.

    Raises:
        ValueError: it is no matrix, not finite, or of a rank below 2.
    """
    return power_law_tail(singular_values(matrix).square())
