"""Matrices whose singular values are raised to a power, from the polar factor to the matrix itself."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from lightning_regimes.optim.gram_eigh import gram_eigh_power
from lightning_regimes.optim.rounding_level import rounding_level
from lightning_regimes.optim.streaming_spectral_power import streaming_spectral_power
from lightning_regimes.spectral.power_expansion import power_expansion
from lightning_regimes.spectral.real_matrix import magnitude, require_real_matrix

SpectralMethod: TypeAlias = Literal["auto", "polynomial", "eigh", "svd", "streaming"]
"""How the powers of the singular values are computed."""

Normalize: TypeAlias = Literal["none", "schatten", "rms"]
"""What is made of the size of the result."""


def spectral_power(
    x: Tensor,
    power: float,
    *,
    method: SpectralMethod = "auto",
    normalize: Normalize = "none",
    lower: float = 1e-4,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Raise the singular values of a matrix to a power between 0 and 1.

    .. math:: M = U \Sigma V^T \; \mapsto \; U \Sigma^p V^T

    p = 0 is the polar factor, the update of Muon; p = 1 is the matrix itself; p = 1/8 is the update of HTMuon. For
    a matrix that lacks rank the null space stays null, with p = 0, too: the partial polar factor.

    - ``"eigh"``: from the eigenvalues of the smaller Gram matrix in float64; exact to rounding in float32.
    - ``"svd"``: from the singular value decomposition; the reference, slower and as exact.
    - ``"polynomial"``: by matrix products alone, to about 2 % where σ is at least ``lower`` times the Schatten-8
      norm, an upper bound on the largest. Smaller singular values fall short of their power, in proportion to σ.
    - ``"streaming"``: one subspace iteration from a cold start;
      :func:`~lightning_regimes.optim.streaming_spectral_power` goes on from the step before.
    - ``"auto"``: ``"eigh"`` on a CPU, ``"polynomial"`` elsewhere.

    Args:
        x: M, shape (..., m, n).
        power: p, between 0 and 1.
        method: see above.
        normalize: see :func:`normalize_power`.
        lower: the smallest relative singular value that the polynomial resolves; smaller ones cost more products.
        dtype: of the computation; default float64 for ``"eigh"`` and ``"svd"``, and otherwise that of ``x``, or float32
            for half precision. Half precision is for the polynomial only.

    Returns:
        The shape and dtype of ``x``.

    Raises:
        ValueError: ``x`` is no real matrix or is not finite, or an argument is out of its range.

    Example:
        >>> spectral_power(torch.diag(torch.tensor([9.0, 4.0])), 0.5)
        tensor([[3., 0.],
                [0., 2.]])

    References:
        HTMuon, arXiv:2603.10067.
    """
    require_real_matrix(x)
    if not 0 <= power <= 1:
        raise ValueError(f"`power` must be between 0 and 1, got {power}")
    if method not in get_args(SpectralMethod):
        raise ValueError(f"`method` is one of {', '.join(get_args(SpectralMethod))}, got {method!r}")
    if method == "auto":
        method = "eigh" if x.device.type == "cpu" else "polynomial"
    if method != "polynomial" and dtype not in (None, torch.float32, torch.float64):
        raise ValueError(f"`dtype` is float32 or float64 for method {method!r}, got {dtype}")
    if x.numel() == 0:
        return x.clone()
    if power == 1:
        magnitude(x)  # raises where an entry is not finite
        result = x.clone()
    elif method == "polynomial":
        result = power_expansion(power, lower=lower)(x, dtype=dtype)
    elif method == "eigh":
        result = gram_eigh_power(x, power, dtype=dtype or torch.float64)
    elif method == "svd":
        result = _svd_power(x, power, dtype or torch.float64)
    else:
        result = streaming_spectral_power(x if dtype is None else x.to(dtype), power)[0].to(x.dtype)
    return normalize_power(result, x, power, normalize=normalize)


def polar_factor(x: Tensor, *, method: SpectralMethod = "auto") -> Tensor:
    r"""Return the nearest matrix with orthonormal rows or columns, :math:`U V^T` of :math:`M = U \Sigma V^T`.

    Args:
        x: M, shape (..., m, n).
        method: as of :func:`spectral_power`.

    Returns:
        The shape and dtype of ``x``; the partial polar factor for a matrix that lacks rank.

    Raises:
        ValueError: as of :func:`spectral_power`.
    """
    return spectral_power(x, 0.0, method=method)


def normalize_power(update: Tensor, x: Tensor, power: float, *, normalize: Normalize) -> Tensor:
    r"""Give :math:`Y = U \Sigma^p V^T` a size that does not depend on that of M.

    - ``"none"``: nothing; Y grows as the p-th power of M.
    - ``"schatten"``: the step of steepest descent in the Schatten norm of exponent q = 1 + 1/p, with q' = 1 + p that of
      the dual norm:

      .. math:: D = \frac{Y}{\langle M, Y \rangle^{p/(1+p)}}, \qquad \|D\|_{S_q} = 1, \qquad
          \langle M, D \rangle = \|M\|_{S_{q'}}

    - ``"rms"``: the Frobenius norm of a polar factor, :math:`\sqrt{\min(m, n)}`, so that a learning rate of Muon
      keeps its meaning.

    Args:
        update: Y, shape (..., m, n).
        x: M.
        power: p.
        normalize: see above.

    Returns:
        D, zero where M is zero.

    Raises:
        ValueError: ``normalize`` is none of these.
    """
    if normalize not in get_args(Normalize):
        raise ValueError(f"`normalize` is one of {', '.join(get_args(Normalize))}, got {normalize!r}")
    if normalize == "none" or (normalize == "schatten" and power == 0):
        return update
    working = torch.promote_types(update.dtype, torch.float32)
    size = magnitude(update, name="update").to(working)
    scaled = update.to(working) / size
    if normalize == "rms":
        norm = torch.linalg.matrix_norm(scaled, keepdim=True)
        norm = torch.where(norm > 0, norm, 1)
        unit: Tensor = scaled * (min(x.shape[-2:]) ** 0.5 / norm)
        return unit.to(update.dtype)
    # The inner product of what is scaled, since that of tiny gradients is not in the range of float32.
    scale = magnitude(x).to(working)
    inner = (scaled * (x.to(working) / scale)).sum(dim=(-2, -1), keepdim=True)
    inner = torch.where(inner > 0, inner, 1)
    exponent = power / (1 + power)
    result: Tensor = scaled * (size / (size * scale) ** exponent / inner**exponent)
    return result.to(update.dtype)


def _svd_power(x: Tensor, power: float, dtype: torch.dtype) -> Tensor:
    scale = magnitude(x).to(dtype)
    left, values, right = torch.linalg.svd(x.to(dtype) / scale, full_matrices=False)
    kept = values > rounding_level(values, x)
    powers = torch.where(kept, values, 1).pow(power) * kept
    result: Tensor = (left * powers.unsqueeze(-2)) @ right * scale**power
    return result.to(x.dtype)
