"""Hilbert–Schmidt independence criterion of two sets of features with linear kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Estimator = Literal["unbiased", "biased"]


@dataclass(frozen=True, eq=False)
class Features:
    """Features of n samples, with mean zero.

    Attributes:
        rows: shape (n, p), float64.
        is_constant: whether the samples agreed up to rounding.
    """

    rows: Tensor
    is_constant: bool


def centered(activations: Tensor) -> Features:
    """Return activations of shape (n, …) as features, less their mean over the samples."""
    rows = activations.reshape(len(activations), -1)
    rows = torch.cat([rows.real, rows.imag], dim=1).double() if rows.is_complex() else rows.double()
    deviations = rows - rows.mean(dim=0)
    # What the subtraction leaves of equal numbers in float64; differences in float32 are far larger.
    is_constant = bool(deviations.square().sum() <= 1e-26 * rows.square().sum())
    return Features(deviations, is_constant)


def independence_criterion(first: Features, second: Features, estimator: Estimator) -> float:
    r"""Estimate HSIC for the linear kernels :math:`K = X X^T` and :math:`L = Y Y^T` of n samples.

    Biased, with the centring :math:`H = I - 1 1^T / n`:

    .. math:: \frac{\operatorname{tr}(K H L H)}{(n - 1)^2} = \frac{\|X^T Y\|_F^2}{(n - 1)^2}

    Unbiased, with :math:`\tilde K = K - \operatorname{diag} K` and the same for L:

    .. math:: \frac{1}{n (n - 3)} \left[\operatorname{tr}(\tilde K \tilde L)
        + \frac{1^T \tilde K 1 \, 1^T \tilde L 1}{(n - 1)(n - 2)} - \frac{2}{n - 2} 1^T \tilde K \tilde L 1\right]

    Both are invariant under shifts of the features, which are centred to keep digits. Where there are more samples than
    features, :math:`\operatorname{tr}(K L) = \|X^T Y\|_F^2` is cheaper than the n × n matrices, which are not made.

    References:
        Gretton et al., Measuring Statistical Dependence with Hilbert–Schmidt Norms, ALT 2005, definition 2; Song et
        al., Feature Selection via Dependence Maximization, JMLR 13 (2012), equation 5.
    """
    x, y = first.rows, second.rows
    count = len(x)
    if count > max(x.shape[1], y.shape[1]):
        trace = float((x.T @ y).square().sum())
    else:
        trace = float(((x @ x.T) * (y @ y.T)).sum())
    if estimator == "biased":
        return trace / (count - 1) ** 2
    # The rows of K and L sum to zero, so that those without the diagonal sum to minus the diagonal.
    k, l_ = x.square().sum(dim=1), y.square().sum(dim=1)
    product = float(k @ l_)
    sums = float(k.sum() * l_.sum())
    return (trace - product + sums / ((count - 1) * (count - 2)) - 2 / (count - 2) * product) / (count * (count - 3))
