"""A physics-informed network's field with the change that would satisfy the equation on fresh points."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_regimes.modules.loss_terms import LossTerms
from lightning_regimes.pde import INTERIOR, Field, FieldCorrection, Problem, field_correction, heldout_points

# Neither these points nor those of `heldout_loss` are the same.
_SEEDS = (20_240_301, 20_240_302)
# Directions and points of a first attempt, and of a second one where that leaves too much: enough for a network that
# has to fit finer structure, with a Jacobian of four times as many entries.
_FIRST, _SECOND = (400, 512), (800, 1024)
# Corrections that leave less of the residual's norm were right within some per cent for errors up to 1; those that
# leave more than 0.1, mostly with errors near 1, were off by any factor.
_MOST_UNEXPLAINED = 0.08
# Where the first attempt leaves more, the second one found none, or a wrong one.
_WORTH_ANOTHER = 0.5
# Two attempts that find different errors have found none.
_MOST_DISAGREEMENT = 0.25
_NUM_COMPARED = 1024


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
        equation leads nowhere. None also where a second attempt, made where the first one leaves too much, finds
        another field than that.
    """

    # Drawing nothing, changing no statistics, and as it is now, whatever becomes of the module.
    network = copy.deepcopy(network).eval()

    def attempt(max_directions: int, num_points: int) -> FieldCorrection:
        step_points, check_points = (
            {name: entry.to(device) for name, entry in heldout_points(problem, num_points, seed=seed).items()}
            for seed in _SEEDS
        )
        return field_correction(
            network,
            terms.residual_functions(problem),
            step_points,
            check_points,
            weights=terms.weights,
            ansatz=ansatz,
            max_directions=max_directions,
        )

    correction = attempt(*_FIRST)
    if not correction.unexplained <= _MOST_UNEXPLAINED:
        if not correction.unexplained <= _WORTH_ANOTHER:
            return None
        first, correction = correction, attempt(*_SECOND)
        at = heldout_points(problem, _NUM_COMPARED, seed=_SEEDS[0])[INTERIOR].to(device)
        if not (
            correction.unexplained <= _MOST_UNEXPLAINED and _disagreement(first, correction, at) <= _MOST_DISAGREEMENT
        ):
            return None
    if ansatz is None:
        return correction.uncorrected, correction
    return ansatz(correction.uncorrected), ansatz(correction)


def _disagreement(one: FieldCorrection, other: FieldCorrection, points: Tensor) -> float:
    """Return how far apart two corrected fields are, over the size of the second correction."""
    corrected = other(points)
    return ((one(points) - corrected).norm() / (other.uncorrected(points) - corrected).norm()).item()
