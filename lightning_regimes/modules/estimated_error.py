"""The error of a physics-informed network, estimated without the solution."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_regimes.metrics.functional import relative_error
from lightning_regimes.modules.loss_terms import LossTerms
from lightning_regimes.pde import Field, Problem, field_correction, heldout_points

# Neither these points nor those of `heldout_loss` are the same.
_SEEDS = (20_240_301, 20_240_302)
_NUM_POINTS = 256
# Above this share of the residual's norm, what the correction leaves is no small remainder.
_MOST_UNEXPLAINED = 0.3


def estimated_error(
    network: nn.Module, problem: Problem, terms: LossTerms, points: Tensor, *, ansatz: Callable[[Field], Field] | None
) -> Tensor | None:
    """Return the relative L2 norm of the correction that satisfies the equation on fresh points, an error estimate.

    Args:
        network: the trained network.
        problem: the equation.
        terms: of the loss.
        points: ``(N, d)``, where the norms are taken.
        ansatz: makes the field of the network, the network itself by default.

    Returns:
        ``‖û − u_c‖₂ / ‖u_c‖₂`` with ``u_c`` the corrected field, or None where the correction leaves so much of the
        residual that it estimates nothing: far from a solution, the linearised equation leads nowhere.
    """
    residuals = terms.residual_functions(problem)
    with torch.inference_mode(False):
        step_points, check_points = (
            {name: entry.to(points.device) for name, entry in heldout_points(problem, _NUM_POINTS, seed=seed).items()}
            for seed in _SEEDS
        )
        correction = field_correction(
            network, residuals, step_points, check_points, weights=terms.weights, ansatz=ansatz
        )
        if not correction.unexplained <= _MOST_UNEXPLAINED:
            return None
        corrected = correction if ansatz is None else ansatz(correction)
        own = correction.uncorrected if ansatz is None else ansatz(correction.uncorrected)
        with torch.no_grad():
            return relative_error(own(points.double()), corrected(points.double()))
