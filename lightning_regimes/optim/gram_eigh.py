"""Powers of the singular values from the eigenvalues of the smaller Gram matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.optim.rounding_level import rounding_level
from lightning_regimes.spectral.real_matrix import magnitude, require_real_matrix


def gram_eigh_power(x: Tensor, power: float, *, dtype: torch.dtype = torch.float64) -> Tensor:
    r"""Return :math:`U \Sigma^p V^T` through the eigenvalues of the Gram matrix of the shorter side.

    .. math:: M M^T = U \Sigma^2 U^T, \qquad U \Sigma^p V^T = (U \Sigma^{p-1} U^T) M

    The Gram matrix squares the condition number, which float64 affords for a matrix known to float32. Singular values
    below :func:`rounding_level` count as zero, and stay zero for every p.

    Args:
        x: M, shape (..., m, n).
        power: p, between 0 and 1.
        dtype: of the computation, float64 or float32.

    Returns:
        The shape and dtype of ``x``.

    Raises:
        ValueError: ``x`` is no real matrix or is not finite.
    """
    require_real_matrix(x)
    scale = magnitude(x).to(dtype)
    scaled = x.to(dtype) / scale
    tall = x.shape[-2] > x.shape[-1]
    wide = scaled.mT if tall else scaled
    squares, vectors = torch.linalg.eigh(wide @ wide.mT)
    values = squares.clamp_min(0).sqrt()
    # An eigenvalue is known to the rounding of the largest.
    resolved = values[..., -1:] * (max(x.shape[-2:]) * torch.finfo(dtype).eps) ** 0.5
    kept = (values > rounding_level(values, x)) & (values > resolved)
    factors = torch.where(kept, values, 1).pow(power - 1) * kept
    result: Tensor = (vectors * factors.unsqueeze(-2)) @ vectors.mT @ wide * scale**power
    return (result.mT if tall else result).to(x.dtype)
