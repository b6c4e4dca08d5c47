"""How large a singular value that should be zero comes out."""

from __future__ import annotations

import torch
from torch import Tensor


def rounding_level(values: Tensor, x: Tensor) -> Tensor:
    r"""Return the singular value that rounding may have made of one that is zero.

    .. math:: 4 \, \epsilon \, \|M\|_F \, (1/\sqrt{m} + 1/\sqrt{n}),

    some ten times the spectral norm of random errors of half a unit in the last place of each entry, for a matrix that
    was itself computed from others. ε is that of the dtype, and of float32 for half precision: a matrix in bfloat16 is
    taken at its word, since rounding in it would hide what gradients carry.

    Args:
        values: all singular values, shape (..., k), in whatever unit the result is to have.
        x: M, for its shape and dtype.

    Returns:
        Shape (..., 1).
    """
    epsilon = torch.finfo(torch.promote_types(x.dtype, torch.float32)).eps
    norm: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    level: Tensor = norm * (4 * epsilon * (x.shape[-2] ** -0.5 + x.shape[-1] ** -0.5))
    return level
