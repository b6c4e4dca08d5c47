"""Powers of the singular values of a matrix that changes slowly, from the singular vectors of the last step."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.optim.rounding_level import rounding_level
from lightning_regimes.spectral.real_matrix import magnitude, require_real_matrix


def streaming_spectral_power(
    x: Tensor, power: float, basis: Tensor | None = None, *, iterations: int = 1
) -> tuple[Tensor, Tensor]:
    r"""Approximate :math:`U \Sigma^p V^T` by subspace iterations that start from those of the step before.

    For a tall or square matrix, with :math:`W` (n, n) the basis, and the same of the transpose for a wide one:

    .. math:: W \leftarrow \operatorname{QR}(M^T M W), \qquad \sigma_i = \|M w_i\|, \qquad
        Y = M W \operatorname{diag}(\sigma^{p - 1}) W^T

    An eigenvector converges as the ratio of neighbouring eigenvalues allows, so that only well separated ones are
    found from a cold start; the largest come first.

    Args:
        x: M, shape (..., m, n).
        power: p, between 0 and 1.
        basis: what the last call returned, shape (..., k, k) with k the shorter side; default the identity.
        iterations: subspace iterations, at least one.

    Returns:
        Y, with the shape and dtype of ``x``, and the new basis, float32 or more.

    Raises:
        ValueError: ``x`` is no real matrix or is not finite, or an argument is out of its range.

    References:
        HTMuon, arXiv:2603.10067.
    """
    require_real_matrix(x)
    if not 0 <= power <= 1:
        raise ValueError(f"`power` must be between 0 and 1, got {power}")
    if iterations < 1:
        raise ValueError(f"`iterations` must be at least 1, got {iterations}")
    size = min(x.shape[-2:])
    if basis is not None and basis.shape != (*x.shape[:-2], size, size):
        raise ValueError(f"`basis` has shape {(*x.shape[:-2], size, size)} for this `x`, got {tuple(basis.shape)}")
    working = torch.promote_types(x.dtype, torch.float32)
    scale = magnitude(x).to(working)
    scaled = x.to(working) / scale
    wide = x.shape[-2] < x.shape[-1]
    tall = scaled.mT if wide else scaled
    if basis is None:
        basis = torch.eye(size, dtype=working, device=x.device).expand(*x.shape[:-2], size, size)
    basis = basis.to(working)
    for _ in range(iterations):
        basis = torch.linalg.qr(tall.mT @ (tall @ basis)).Q
    image = tall @ basis
    values = torch.linalg.vector_norm(image, dim=-2)
    kept = values > rounding_level(values, x)
    factors = torch.where(kept, values, 1).pow(power - 1) * kept
    result: Tensor = (image * factors.unsqueeze(-2)) @ basis.mT * scale**power
    return (result.mT if wide else result).to(x.dtype), basis
