"""Matrices whose rows are scaled by a power of their own norm."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.spectral.real_matrix import require_real_matrix


def row_normalize(x: Tensor, *, power: float = 0.0, eps: float = 1e-12) -> Tensor:
    r"""Scale each row so that its norm becomes a power of what it was.

    .. math:: y_i = \frac{x_i}{\max(\|x_i\|, \epsilon)^{1 - p}}

    With p = 0 all rows have norm one, the update of RMNP; with p = 1 nothing changes. For a weight of shape
    (out, in) a row is what one output neuron reads, so the matrix is never transposed. Rows know nothing of each
    other: sharded by rows, this needs no communication. A row that is not finite becomes NaN.

    Args:
        x: shape (..., m, n).
        power: p, between 0 and 1.
        eps: smallest norm to divide by, so that a row of zeros stays zero.

    Returns:
        The shape and dtype of ``x``.

    Raises:
        ValueError: ``x`` is no real matrix, or ``power`` or ``eps`` is out of its range.

    Example:
        >>> row_normalize(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])

    References:
        RMNP: row-momentum normalized preconditioning, arXiv:2603.20527.
    """
    return (x * row_factors(x, power=power, eps=eps)).to(x.dtype)


def row_factors(x: Tensor, *, power: float = 0.0, eps: float = 1e-12) -> Tensor:
    r"""Return what :func:`row_normalize` multiplies the rows by, :math:`\max(\|x_i\|, \epsilon)^{p - 1}`.

    An optimizer folds them into its own pass over the matrix, which then is the only one.

    Args:
        x: shape (..., m, n).
        power: p, between 0 and 1.
        eps: smallest norm to divide by.

    Returns:
        Shape (..., m, 1), in the dtype of ``x``, or in float32 for half precision, whose range is too small.

    Raises:
        ValueError: ``x`` is no real matrix, or ``power`` or ``eps`` is out of its range.
    """
    require_real_matrix(x)
    if not 0 <= power <= 1:
        raise ValueError(f"`power` must be between 0 and 1, got {power}")
    if not eps > 0:
        raise ValueError(f"`eps` must be positive, got {eps}")
    # Half precision holds neither the sum of squares of a long row nor the default of `eps`.
    norms = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.promote_types(x.dtype, torch.float32))
    factors: Tensor = norms.clamp_min(eps).pow(power - 1)
    return factors
