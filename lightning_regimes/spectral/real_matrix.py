"""What a matrix must be for its singular values to be computed with."""

from __future__ import annotations

import torch
from torch import Tensor


def require_real_matrix(matrix: Tensor, *, name: str = "x") -> None:
    """Raise unless the tensor holds real floating-point matrices, shape (..., m, n).

    Raises:
        ValueError: it does not.
    """
    if not matrix.is_floating_point():
        raise ValueError(f"`{name}` holds real floating-point numbers, got {matrix.dtype}")
    if matrix.ndim < 2:
        raise ValueError(f"`{name}` is a matrix or a stack of them, (..., m, n), got shape {tuple(matrix.shape)}")


def magnitude(matrix: Tensor, *, name: str = "x") -> Tensor:
    """Return the power of two below the largest magnitude of an entry, shape (..., 1, 1), or 1 for a matrix of zeros.

    Division by it rounds nothing, and takes sums of squares of the entries into the range of the dtype. The result is
    in float32 or float64.

    Raises:
        ValueError: an entry is not finite.
    """
    wide = torch.promote_types(matrix.dtype, torch.float32)
    # A maximum of magnitudes is not finite if any entry is not, so that one pass serves both.
    largest = torch.linalg.vector_norm(matrix, float("inf"), dim=(-2, -1), keepdim=True)
    if not bool(torch.isfinite(largest).all()):
        count = int((~torch.isfinite(matrix)).sum())
        raise ValueError(f"`{name}` has finite entries, got {count} of {matrix.numel()} that are not")
    return torch.where(largest > 0, largest.to(wide), 1).log2().floor().exp2()
