"""The iterates of a matrix through polynomials of its smaller Gram matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Rounding of the Gram matrix, relative to its largest eigenvalue, may have grown to this by the last stage of a
# segment, which multiplies small singular values by 1 % less or more, then.
_TOLERATED_ROUNDING = 0.005


def segment_lengths(stages: Sequence[tuple[float, float, float]], resolution: float) -> list[int] | None:
    r"""Part the stages into segments of about equal length, in which rounding of a Gram matrix does no harm.

    A stage multiplies a small eigenvalue of the Gram matrix by a², and the rounding that goes with it; once that is
    of order one the iteration diverges. A fresh Gram matrix, of an iterate whose small singular values have grown,
    resolves them.

    Args:
        stages: triples a, b, c.
        resolution: of the products, relative.

    Returns:
        The lengths; None if not even two stages go together.
    """
    steepest = max(2 * math.log(max(abs(a), 1.001)) for a, _, _ in stages)
    longest = 1 + math.floor(math.log(_TOLERATED_ROUNDING / resolution) / steepest) if resolution < 0.001 else 1
    if longest < 2:
        return None
    count = -(-len(stages) // longest)
    short, extra = divmod(len(stages), count)
    return [short + 1] * extra + [short] * (count - extra)


def gram_form(
    x: Tensor,
    first: Tensor,
    second: Tensor,
    stages: Sequence[tuple[float, float, float]],
    weights: Sequence[float],
    lengths: Sequence[int],
    *,
    inner: Tensor,
    outer: Tensor,
) -> Tensor:
    r"""Return a multiple of the weighted sum of all iterates with few products with the long side.

    All iterates of a segment are :math:`X_k = Q_k X`, with X its first one:

    .. math:: P_k = a_k I + b_k R_k + c_k R_k^2, \qquad Q_{k+1} = P_k Q_k, \qquad R_{k+1} = P_k R_k P_k

    from :math:`Q = I` and :math:`R = X X^T`. Their weighted sum is one matrix for each segment, and these are
    multiplied together before the long side comes in again.

    Args:
        x: a multiple of X₀, shape (batch, k, l) with k ≤ l.
        first: X₀ X₀ᵀ, shape (batch, k, k).
        second: its square.
        stages: triples a, b, c.
        weights: one more than there are stages.
        lengths: of the segments, in stages.
        inner: X₀ relative to x, shape (batch, 1, 1).
        outer: the result relative to the sum.
    """
    identity = torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    segments = []
    iterate = x
    start = 0
    for length in lengths:
        if start:
            first = iterate @ iterate.mT
            second = first @ first
        a, b, c = stages[start]
        factor = a * identity + b * first + c * second
        product, current = factor, first
        mixture = weights[start + 1] * product
        for index in range(start + 1, start + length):
            current = factor @ current @ factor
            a, b, c = stages[index]
            factor = a * identity + torch.baddbmm(current, current, current, beta=b, alpha=c)
            product = factor @ product
            mixture = mixture.add_(product, alpha=weights[index + 1])
        start += length
        segments.append((mixture, product))
        if start < len(stages):
            iterate = (product if len(segments) > 1 else product * inner) @ iterate
    total = segments.pop()[0]
    for mixture, product in reversed(segments):
        total = torch.baddbmm(mixture, total, product)
    return (total + weights[0] * identity) * (inner * outer) @ x
