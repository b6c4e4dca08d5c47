"""The Cholesky factor of a kernel with a ridge."""

from __future__ import annotations

import torch
from torch import Tensor


def regularized_cholesky(kernel: Tensor, lam: float) -> Tensor:
    r"""Factorise :math:`H + \lambda I`, once more with a jitter of :math:`10\,\epsilon\, \mathrm{tr}(H) / m` if needed.

    Raises:
        ValueError: the matrix is not positive definite with the jitter either.
    """
    identity = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    factor, failed = torch.linalg.cholesky_ex(kernel + lam * identity)
    if failed:
        jitter = 10 * torch.finfo(kernel.dtype).eps * kernel.diagonal().mean()
        factor, failed = torch.linalg.cholesky_ex(kernel + (lam + jitter) * identity)
    if failed:
        raise ValueError(f"the kernel is not positive definite with `lam` = {lam:g}: equal rows need a larger `lam`")
    result: Tensor = factor
    return result
