"""How well a polynomial separates two parts of a spectrum, as something to minimise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_regimes.spectral.chebyshev_series import ChebyshevSeries


def log_contraction(series: ChebyshevSeries, eigenvalues: Tensor, num_wanted: Tensor, num_kept: Tensor) -> Tensor:
    r"""Return the logarithm of what an iteration of a subspace multiplies its error by, shape (B,).

    .. math:: \log \frac{\max_{i > m} |\varphi(\lambda_i)|}{\min_{i \le k} |\varphi(\lambda_i)|}

    Args:
        series: φ of a batch.
        eigenvalues: shape (B, n), ascending.
        num_wanted: k, how many of the largest are wanted, shape (B,).
        num_kept: m, vectors in the subspace, at least k, shape (B,).

    References:
        Y. Zhou, Y. Saad, M. Tiago, J. Chelikowsky, Self-consistent-field calculations using Chebyshev-filtered subspace
        iteration, J. Comput. Phys. 219 (2006), doi:10.1016/j.jcp.2006.03.017.
    """
    size = eigenvalues.shape[-1]
    rank = size - 1 - torch.arange(size, device=eigenvalues.device)
    height = series.evaluate(eigenvalues).abs().clamp(min=1e-30).log()
    damped = height.masked_fill(rank < num_kept.unsqueeze(-1), -torch.inf).amax(-1)
    wanted = height.masked_fill(rank >= num_wanted.unsqueeze(-1), torch.inf).amin(-1)
    return damped - wanted


def separation_loss(series: ChebyshevSeries, eigenvalues: Tensor, num_wanted: Tensor, num_kept: Tensor) -> Tensor:
    r"""Return the mean over a batch of :math:`\log (1 + c)` for the contraction c; see :func:`log_contraction`.

    It counts those most that converge slowly, and bounds what one that does not converge may count.
    """
    return nn.functional.softplus(log_contraction(series, eigenvalues, num_wanted, num_kept)).mean()
