"""The arc-cosine kernel of a wide two-layer ReLU network, from inner products."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Cosines this near to 1 count as 1: rounding of inner products makes no angle of two equal rows.
SAME_DIRECTION = 64

#: A squared norm below this many roundings of the terms that it was made of is zero.
ZERO_NORM = 64


def arc_cosine(inner: Tensor, norm: Tensor, other_norm: Tensor, *, normalize: bool) -> Tensor:
    r"""Return the kernel of rows with known inner products and norms.

    .. math:: k(u, v) = |u| |v|\, \frac{c\, (\pi - \arccos c)}{2 \pi}, \qquad c = \frac{u \cdot v}{|u| |v|}

    With ``normalize``, the rows are scaled to unit norm first: the factor :math:`|u| |v|` is 1. Rows of zeros have a
    kernel of zero with every row. Where c is 1 up to rounding, it is exactly 1.

    Args:
        inner: the inner products.
        norm: the norms of the rows on one side, broadcasts with ``inner``.
        other_norm: those on the other side.
        normalize: whether rows are scaled to unit norm.

    References:
        Cho, Saul, Kernel Methods for Deep Learning (2009); Arora et al., Fine-Grained Analysis of Optimization and
        Generalization for Overparameterized Two-Layer Neural Networks, arXiv:1901.08584, equation 12.
    """
    scale = norm * other_norm
    cosine = torch.where(scale > 0, inner / scale.clamp_min(torch.finfo(scale.dtype).tiny), torch.zeros_like(inner))
    is_same = cosine >= 1 - SAME_DIRECTION * torch.finfo(cosine.dtype).eps
    is_opposite = cosine <= -1 + SAME_DIRECTION * torch.finfo(cosine.dtype).eps
    inside = torch.where(is_same | is_opposite, torch.zeros_like(cosine), cosine)
    angle = torch.where(is_same, 0.0, torch.where(is_opposite, math.pi, torch.arccos(inside)))
    kernel = cosine.clamp(-1, 1) * (math.pi - angle) / (2 * math.pi)
    return kernel if normalize else kernel * scale


def arc_cosine_diagonal(norm: Tensor, *, normalize: bool) -> Tensor:
    """Return the kernel of rows with themselves: half the squared norm, or 1/2 where it is not zero."""
    return (norm > 0).to(norm.dtype) / 2 if normalize else norm.square() / 2


def arc_cosine_gram(rows: Tensor, others: Tensor | None = None, *, normalize: bool) -> Tensor:
    """Return the kernel between dense rows, of one set or of two, shape (rows, others)."""
    norm = rows.norm(dim=1)
    if others is not None:
        return arc_cosine(rows @ others.T, norm[:, None], others.norm(dim=1)[None], normalize=normalize)
    gram = arc_cosine(rows @ rows.T, norm[:, None], norm[None], normalize=normalize)
    is_diagonal = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return torch.where(is_diagonal, arc_cosine_diagonal(norm, normalize=normalize)[:, None], gram)


def rounded_norm(square: Tensor, terms: Tensor) -> Tensor:
    """Return the root of squared norms that came from differences; those lost in the rounding of the terms are zero."""
    floor = ZERO_NORM * torch.finfo(square.dtype).eps * terms
    return torch.where(square > floor, square, torch.zeros_like(square)).sqrt()
