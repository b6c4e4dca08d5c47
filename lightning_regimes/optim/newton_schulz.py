"""Muon's approximation of the polar factor by a few matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.spectral.real_matrix import magnitude, require_real_matrix

JORDAN_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def newton_schulz(
    x: Tensor,
    *,
    steps: int = 5,
    coefficients: tuple[float, float, float] = JORDAN_COEFFICIENTS,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Push all singular values towards one by the same odd polynomial, several times.

    .. math:: X_0 = M / \|M\|_F, \qquad X_{k+1} = a X_k + \bigl(b X_k X_k^T + c (X_k X_k^T)^2\bigr) X_k

    The default coefficients trade accuracy for speed: singular values of :math:`X_0` above about 0.01 end between
    0.7 and 1.2. :func:`~lightning_regimes.optim.polar_factor` is exact, or as many products more accurate.

    Args:
        x: M, shape (..., m, n).
        steps: of the iteration, three matrix products each.
        coefficients: a, b, c.
        dtype: of the products; default the dtype of ``x``, and float32 for half precision, since products in
            bfloat16 are slow where the hardware lacks them.

    Returns:
        The shape and dtype of ``x``; zeros for a matrix of zeros.

    Raises:
        ValueError: ``x`` is no real matrix or is not finite, or ``steps`` is negative.

    References:
        K. Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024,
        https://kellerjordan.github.io/posts/muon.
    """
    require_real_matrix(x)
    if steps < 0:
        raise ValueError(f"`steps` must not be negative, got {steps}")
    if x.numel() == 0:
        return x.clone()
    a, b, c = coefficients
    working = dtype or torch.promote_types(x.dtype, torch.float32)
    x_k = (x / magnitude(x)).to(working)
    tall = x.shape[-2] > x.shape[-1]
    x_k = x_k.mT if tall else x_k
    norm = torch.linalg.matrix_norm(x_k, keepdim=True)
    x_k = x_k / norm.clamp_min(torch.finfo(working).tiny)
    shape = x_k.shape
    x_k = x_k if x.ndim == 2 else x_k.reshape(-1, *shape[-2:])
    multiply_add = torch.addmm if x.ndim == 2 else torch.baddbmm
    for _ in range(steps):
        gram = x_k @ x_k.mT
        x_k = multiply_add(x_k, multiply_add(gram, gram, gram, beta=b, alpha=c), x_k, beta=a)
    x_k = x_k.reshape(shape)
    return (x_k.mT if tall else x_k).to(x.dtype)
