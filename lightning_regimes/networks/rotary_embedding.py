"""Positions as rotations of queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_angles(
    length: int, size: int, *, base: float = 10000.0, dtype: torch.dtype, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    r"""Return the cosine and sine of :math:`t\,b^{-2i/d}` for positions t and pairs :math:`i < d/2`.

    Angles are computed in float32 at least.

    Args:
        length: number of positions T.
        size: d, of a head, even.
        base: b.
        dtype: of what is returned.
        device: of what is returned.

    Returns:
        Two tables of shape (T, d/2).

    References:
        J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021, arXiv:2104.09864,
        equation 15.
    """
    precise = torch.promote_types(dtype, torch.float32)
    # One over the power rather than a negative power: the rounding of Hugging Face's tables, and so the same logits.
    frequencies = 1 / base ** (torch.arange(0, size, 2, dtype=precise, device=device) / size)
    angles = torch.outer(torch.arange(length, dtype=precise, device=device), frequencies)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    r"""Return heads with entries i and i + d/2 rotated by the angle of their position.

    This is the order of the pairs in Hugging Face's checkpoints; the paper pairs neighbours.

    Args:
        heads: queries or keys, (..., T, d).
        cosine: (T, d/2).
        sine: (T, d/2).

    Returns:
        The rotated heads, of the same shape.
    """
    first, second = heads.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
