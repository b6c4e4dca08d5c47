"""The expansion that a spectrum needs, and no longer one."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.spectral.power_expansion import power_expansion
from lightning_regimes.spectral.stages import STAGES


def sufficient_lower(values: Tensor, power: float, *, tolerance: float = 0.03) -> float:
    r"""Return the ``lower`` of the shortest expansion that is accurate enough on known singular values.

    The relative Frobenius error of an expansion Y on singular values σ, with s their Schatten-8 norm, is known before a
    single product is taken:

    .. math:: \frac{\sqrt{\sum_i (s^p Y(\sigma_i / s) - \sigma_i^p)^2}}{\sqrt{\sum_i \sigma_i^{2 p}}}

    Those that come with the package are tried from the shortest on, which reaches :math:`\sigma \ge 0.1 s`.

    Args:
        values: σ of one or more matrices, shape (..., k), of which the largest error counts. Null ones don't.
        power: p, between 0 and 1.
        tolerance: that the error keeps to. Where none does, the longest is taken.

    Returns:
        As for :func:`power_expansion`.

    Raises:
        ValueError: a singular value is negative or not finite, or ``tolerance`` is not positive.
    """
    if not bool((torch.isfinite(values) & (values >= 0)).all()):
        raise ValueError("`values` are finite and not negative, got some that are not")
    if not tolerance > 0:
        raise ValueError(f"`tolerance` must be positive, got {tolerance}")
    sigma = values.double().cpu()
    sigma = sigma / sigma.amax(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    scale = sigma.pow(8).sum(dim=-1, keepdim=True).pow(1 / 8).clamp_min(torch.finfo(torch.float64).tiny)
    relative = sigma / scale
    # What is null to float32 has no direction, and stays null.
    wanted = torch.where(relative > 1e-7, relative.pow(power), 0)
    size = torch.linalg.vector_norm(wanted, dim=-1).clamp_min(torch.finfo(torch.float64).tiny)
    for lower in sorted(STAGES, reverse=True):
        found = power_expansion(power, lower=lower).scalar(relative)
        error = torch.linalg.vector_norm(found - wanted, dim=-1) / size
        if bool((error <= tolerance).all()):
            return lower
    return min(STAGES)


def gram_singular_values(x: Tensor) -> Tensor:
    """Return singular values in float64, by the Gram matrix of the shorter side, shape (..., min(m, n)).

    Those below 1e-8 of the largest are rounding. It takes one product and the eigenvalues, and no vectors.

    Args:
        x: shape (..., m, n).
    """
    tall = x.shape[-2] > x.shape[-1]
    wide = (x.mT if tall else x).double()
    wide = wide / wide.abs().amax(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    squares: Tensor = torch.linalg.eigvalsh(wide @ wide.mT)
    return squares.clamp_min(0).sqrt()
