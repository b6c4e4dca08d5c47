"""What a list of eigenvalues says by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def gap_index(eigenvalues: Tensor | Sequence[float], *, floor: float = 0.01) -> int:
    r"""Return how many eigenvalues are dominant: those before the largest relative gap.

    .. math:: \arg\max_i \; \lambda_i / \lambda_{i+1}, \quad \lambda_{i+1} > f \lambda_1

    for values in descending order and the floor f. Values at or below it count as the null space, whose edge is no gap.
    Without two values above it, returns their number, 0 or 1.

    Args:
        eigenvalues: shape (m,), in any order.
        floor: fraction of the largest value.

    Raises:
        ValueError: not a vector of finite numbers, or a floor outside [0, 1).

    References:
        Deng, Liao, Ouyang, Pang, Yang, Depth, Not Data: An Analysis of Hessian Spectral Bifurcation,
        arXiv:2602.00545, use the largest absolute gap above the same floor.
    """
    values = torch.as_tensor(eigenvalues, dtype=torch.float64).detach().cpu()
    if values.ndim != 1 or len(values) == 0 or not bool(torch.isfinite(values).all()):
        raise ValueError(f"`eigenvalues` must be a non-empty vector of finite numbers, got {eigenvalues}")
    if not 0 <= floor < 1:
        raise ValueError(f"`floor` must be in [0, 1), got {floor}")
    values = values.sort(descending=True).values
    kept = values[values > floor * values[0].clamp(min=0)]
    return len(kept) if len(kept) < 2 else 1 + int((kept[:-1] / kept[1:]).argmax())
