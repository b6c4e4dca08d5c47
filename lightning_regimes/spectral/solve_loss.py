"""How many iterations conjugate gradients with a polynomial preconditioner need, as something to minimise."""

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

    .. math:: \frac1B \sum_i \log k_i + c \max(0, \; m - b \min_\lambda p(\lambda)), \qquad
        \frac{\|x_{k_i} - A_i^{-1} b_i\|_{A_i}}{\|A_i^{-1} b_i\|_{A_i}} = \tau

    The numbers k of iterations are those of :func:`iterations_until`, interpolated between two; so a system that needs
    a tenth fewer counts the same whether it needs ten or a hundred.

    Args:
        recurrence: of a batch.
        eigenvalues: shape (B, n).
        right_hand_side: shape (B, n).
        upper: bounds b up to which p must be positive, shape (B,).
        num_steps: iterations that are unrolled; a system that is not solved by then is taken to go on at its mean rate.
        target: τ, relative error in the norm of A.
        positivity: c of the penalty.
    """
    smallest = recurrence.smallest_inverse(upper, num_points=128)
    # A single inverse that is not positive makes gradients that are no numbers; clamped, it leaves only the penalty.
    inverse = recurrence.inverse(eigenvalues).clamp(min=_LEAST_INVERSE / 4 / upper.unsqueeze(-1))
    penalty = (_LEAST_INVERSE - smallest).clamp(min=0).mean()
    return _log_iterations(eigenvalues, right_hand_side, inverse, num_steps, target) + positivity * penalty


def plain_cg_loss(eigenvalues: Tensor, right_hand_side: Tensor, *, num_steps: int, target: float = TARGET) -> Tensor:
    """Return the mean logarithm of the iterations without a preconditioner; see :func:`unrolled_cg_loss`."""
    return _log_iterations(eigenvalues, right_hand_side, torch.ones_like(eigenvalues), num_steps, target)


def _log_iterations(
    eigenvalues: Tensor, right_hand_side: Tensor, inverse: Tensor, num_steps: int, target: float
) -> Tensor:
    errors = simulated_cg(eigenvalues, right_hand_side, inverse, num_steps)
    return iterations_until(errors, target).log().mean()
