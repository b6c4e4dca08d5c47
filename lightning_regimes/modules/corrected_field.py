"""A physics-informed network's field with the change that would satisfy the equation on fresh points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from lightning_regimes.modules.loss_terms import LossTerms
from lightning_regimes.pde import Field, Problem, field_correction, heldout_points

# Neither these points nor those of `heldout_loss` are the same.
_SEEDS = (20_240_301, 20_240_302)
# Directions and points of a first attempt, and of a second one where that leaves too much. Its Jacobian has four times
# as many entries, and is enough for a network that has to fit finer structure.
_SIZES = ((400, 512), (800, 1024))
# Corrections that leave less of the residual's norm were right within some per cent wherever the solution is known;
# those that leave more than 0.1, mostly with errors near 1, were off by any factor.
_MOST_UNEXPLAINED = 0.08
# Where the first attempt leaves more, a second one has never found a correction.
_WORTH_ANOTHER = 0.5


def corrected_field(
    network: nn.Module,
    problem: Problem,
    terms: LossTerms,
    *,
    ansatz: Callable[[Field], Field] | None,
    device: torch.device,
) -> tuple[Field, Field] | None:
    """Return the network's field and the corrected one, both in float64.

    Args:
        network: the trained network.
        problem: the equation.
        terms: of the loss.
        ansatz: makes the field of the network, the network itself by default.
        device: where to compute.

    Returns:
        None where the correction leaves so much of the residual that it is none: far from a solution, the linearised
        equation leads nowhere.
    """
    for max_directions, num_points in _SIZES:
        step_points, check_points = (
            {name: entry.to(device) for name, entry in heldout_points(problem, num_points, seed=seed).items()}
            for seed in _SEEDS
        )
        correction = field_correction(
            network,
            terms.residual_functions(problem),
            step_points,
            check_points,
            weights=terms.weights,
            ansatz=ansatz,
            max_directions=max_directions,
        )
        if correction.unexplained <= _MOST_UNEXPLAINED or not correction.unexplained <= _WORTH_ANOTHER:
            break
    if not correction.unexplained <= _MOST_UNEXPLAINED:
        return None
    if ansatz is None:
        return correction.uncorrected, correction
    return ansatz(correction.uncorrected), ansatz(correction)
