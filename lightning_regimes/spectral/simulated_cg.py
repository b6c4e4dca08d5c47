"""Conjugate gradients on a spectrum instead of an operator, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor

_SMALLEST = 1e-40


def simulated_cg(eigenvalues: Tensor, right_hand_side: Tensor, inverse: Tensor, num_steps: int) -> Tensor:
    r"""Return how the error of preconditioned conjugate gradients falls on diagonal operators.

    .. math:: \frac{\|x_k - A^{-1} b\|_A}{\|A^{-1} b\|_A}, \qquad k = 0, \dots, K

    Args:
        eigenvalues: λ, positive, shape (..., n).
        right_hand_side: b in the eigenbasis, shape (..., n).
        inverse: p(λ) of the preconditioner, positive, shape (..., n). One that is not makes gradients that are no
            numbers, which no later choice stops: clamp it before.
        num_steps: K.

    Returns:
        Shape (..., K + 1). Far below the rounding of conjugate gradients in float64 it stands still.
    """
    residual = right_hand_side / torch.linalg.vector_norm(right_hand_side, dim=-1, keepdim=True)
    reciprocal = 1 / eigenvalues
    squares = [(residual.square() * reciprocal).sum(-1)]
    conditioned = inverse * residual
    decrease = (residual * conditioned).sum(-1, keepdim=True)
    direction = conditioned
    for _ in range(num_steps):
        image = eigenvalues * direction
        step = decrease / (direction * image).sum(-1, keepdim=True).clamp(min=_SMALLEST)
        residual = residual - step * image
        squares.append((residual.square() * reciprocal).sum(-1))
        conditioned = inverse * residual
        following = (residual * conditioned).sum(-1, keepdim=True)
        direction = conditioned + following / decrease.clamp(min=_SMALLEST) * direction
        decrease = following
    values = torch.stack(squares, -1)
    return (values / values[..., :1] + _SMALLEST).sqrt()


def iterations_until(errors: Tensor, target: float) -> Tensor:
    r"""Return after how many iterations, and which fraction of one, errors pass a target, shape (...).

    Where they do not, they are taken to go on at their mean rate. Differentiable in the errors.

    Args:
        errors: :math:`1 = e_0, e_1, \dots, e_K`, shape (..., K + 1).
        target: below 1.
    """
    logarithms = (errors / target).log()
    last = logarithms.shape[-1] - 1
    count = (logarithms > 0).sum(-1).clamp(min=1)
    before = logarithms.gather(-1, (count - 1).unsqueeze(-1)).squeeze(-1)
    after = logarithms.gather(-1, count.clamp(max=last).unsqueeze(-1)).squeeze(-1)
    passed = count - 1 + before / (before - after).clamp(min=1e-3)
    rate = (logarithms[..., 0] - logarithms[..., -1]).clamp(min=1e-3) / last
    return torch.where(count > last, logarithms[..., 0] / rate, passed)
