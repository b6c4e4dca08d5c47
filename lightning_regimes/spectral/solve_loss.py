"""How slowly conjugate gradients with a polynomial preconditioner converge, as something to minimise."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.simulated_cg import simulated_cg

TARGET = 1e-10
"""Relative error below which nothing is gained."""

_LEAST_INVERSE = 0.02


def unrolled_cg_loss(
    recurrence: ResidualRecurrence,
    eigenvalues: Tensor,
    right_hand_side: Tensor,
    upper: Tensor,
    *,
    num_steps: int,
    target: float = TARGET,
    positivity: float = 10.0,
) -> Tensor:
    r"""Return the mean contraction of the error by an iteration, and a penalty of inverses that are not positive.

    .. math:: \Bigl(\prod_i \frac{\|x_S - A^{-1} b\|_A}{\|A^{-1} b\|_A}\Bigr)^{1 / (S B)}
        + c \max(0, \; m - b \min_\lambda p(\lambda))

    The first part is a geometric mean over S unrolled iterations and B systems.

    Args:
        recurrence: of a batch.
        eigenvalues: shape (B, n).
        right_hand_side: shape (B, n).
        upper: bounds b up to which p must be positive, shape (B,).
        num_steps: S.
        target: relative error below which nothing is gained.
        positivity: c of the penalty.
    """
    smallest = recurrence.smallest_inverse(upper, num_points=128)
    # A single inverse that is not positive makes gradients that are no numbers; clamped, it leaves only the penalty.
    inverse = recurrence.inverse(eigenvalues).clamp(min=_LEAST_INVERSE / 4 / upper.unsqueeze(-1))
    penalty = (_LEAST_INVERSE - smallest).clamp(min=0).mean()
    return _contraction(eigenvalues, right_hand_side, inverse, num_steps, target) + positivity * penalty


def plain_cg_loss(eigenvalues: Tensor, right_hand_side: Tensor, *, num_steps: int, target: float = TARGET) -> Tensor:
    """Return the mean contraction by an iteration without a preconditioner; see :func:`unrolled_cg_loss`."""
    return _contraction(eigenvalues, right_hand_side, torch.ones_like(eigenvalues), num_steps, target)


def _contraction(
    eigenvalues: Tensor, right_hand_side: Tensor, inverse: Tensor, num_steps: int, target: float
) -> Tensor:
    errors = simulated_cg(eigenvalues, right_hand_side, inverse, num_steps)[..., -1]
    rates: Tensor = (errors.square() + target**2).log() / (2 * num_steps)
    return rates.mean().exp()
