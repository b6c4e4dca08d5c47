"""Updates whose rows are scaled by a running mean of their squares: NorMuon."""

from __future__ import annotations

import torch
from torch import Tensor


def normalize_neurons(updates: Tensor, mean_squares: Tensor, *, beta2: float) -> Tensor:
    r"""Divide each row by the root of a running mean of its squares, and keep the norm of the whole.

    .. math:: v_i \leftarrow \beta_2 v_i + (1 - \beta_2) \frac{1}{n} \|o_i\|^2, \qquad
        \hat o_i = \frac{o_i}{\sqrt{v_i}}, \qquad O \leftarrow \hat O \, \frac{\|O\|_F}{\|\hat O\|_F}

    Args:
        updates: O, shape (b, m, n).
        mean_squares: v, shape (b, m, 1), float32 or more; updated in place.
        beta2: decay of the mean.

    Returns:
        The shape and dtype of ``updates``; zeros where they are.

    References:
        NorMuon: Making Muon more efficient and scalable, arXiv:2510.05491, algorithm 1.
    """
    working = updates.to(mean_squares.dtype)
    mean_squares.lerp_(working.square().mean(dim=-1, keepdim=True), 1 - beta2)
    rows = working / mean_squares.sqrt().clamp_min(torch.finfo(working.dtype).tiny)
    before, after = (torch.linalg.matrix_norm(matrices, keepdim=True) for matrices in (working, rows))
    normalized: Tensor = rows * (before / after.clamp_min(torch.finfo(working.dtype).tiny))
    return normalized.to(updates.dtype)
