"""How many iterations conjugate gradients need with a polynomial preconditioner, as something to minimise."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.simulated_cg import iterations_until, simulated_cg

TARGET = 1e-8
"""Relative error at which a system counts as solved."""

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
    r"""Return the mean logarithm of the iterations, and a penalty of inverses that are not positive.

    .. math:: \log K + c \max(0, \; m - b \min_\lambda p(\lambda))

    K is the number of iterations, with a fraction, until the error in the norm of A has fallen to the target. It is
    known from S unrolled steps; where these are too few, the error is taken to go on at its mean rate.

    Args:
        recurrence: of a batch.
        eigenvalues: shape (B, n).
        right_hand_side: shape (B, n).
        upper: bounds b up to which p must be positive, shape (B,).
        num_steps: S.
        target: relative error.
        positivity: c of the penalty.
    """
    smallest = recurrence.smallest_inverse(upper, num_points=128)
    # A single inverse that is not positive makes gradients that are no numbers; clamped, it leaves only the penalty.
    inverse = recurrence.inverse(eigenvalues).clamp(min=_LEAST_INVERSE / 4 / upper.unsqueeze(-1))
    errors = simulated_cg(eigenvalues, right_hand_side, inverse, num_steps)
    penalty = (_LEAST_INVERSE - smallest).clamp(min=0)
    return (iterations_until(errors, target).log() + positivity * penalty).mean()


def plain_cg_loss(eigenvalues: Tensor, right_hand_side: Tensor, *, num_steps: int, target: float = TARGET) -> Tensor:
    """Return the mean logarithm of the iterations without a preconditioner; see :func:`unrolled_cg_loss`."""
    errors = simulated_cg(eigenvalues, right_hand_side, torch.ones_like(eigenvalues), num_steps)
    return iterations_until(errors, target).log().mean()
