"""What guidance does next, as a function of numbers: no trainer, no module, no clock."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lightning_regimes.regimes import Regime, Remedy

OptimizerKind = Literal["own", "quasi_newton", "newton"]

# The held-out loss over the training loss from which on points limit the error of a run that is well-trained.
_GAP = 3.0
# A loss that falls by less than this factor from one check to the next has settled.
_FALLING = 0.9
# One that falls by less than this does not move any more.
_MOVING = 0.99


@dataclass(frozen=True)
class Situation:
    """Where a training stands at a check.

    Attributes:
        regime: by the training and held-out loss; None where there is no evidence.
        normalized_loss: training loss over reference loss.
        normalized_heldout_loss: held-out loss over reference loss, if there is one.
        earlier_loss: normalized loss at the check before, since the last intervention.
        optimizer: which one runs.
        num_gradients: evaluations of the gradient so far.
        warm_up: evaluations before which nothing is done.
        available: remedies that module, data and trainer offer.
        used_up: remedies that are exhausted or made things worse.
    """

    regime: Regime | None
    normalized_loss: float
    normalized_heldout_loss: float | None
    earlier_loss: float | None
    optimizer: OptimizerKind
    num_gradients: int
    warm_up: int
    available: frozenset[Remedy]
    used_up: frozenset[Remedy] = frozenset()

    @property
    def is_falling(self) -> bool:
        """Whether the loss still falls, taken as true while nothing is known."""
        return self.earlier_loss is None or self.normalized_loss < _FALLING * self.earlier_loss

    @property
    def is_stalled(self) -> bool:
        """Whether the loss hardly moves, taken as false while nothing is known."""
        return self.earlier_loss is not None and self.normalized_loss > _MOVING * self.earlier_loss


@dataclass(frozen=True)
class Decision:
    """What to do, and why; no remedy is to train on."""

    remedy: Remedy | None
    reason: str


def decide(situation: Situation) -> Decision:
    """Return the first remedy of the regime that is available, not used up, and due.

    - diverged: a lower learning rate where the loss has not fallen since the check before;
    - under-trained: L-BFGS once the warm-up is over; when that has settled, or where it cannot be had, a curriculum,
      and an augmented Lagrangian when a better optimizer has settled;
    - over-trained: more points or data, then a curriculum where fresh data is fitted no better than by the trivial
      predictor, then weight decay;
    - well-trained: L-BFGS once the warm-up is over; when that has settled, more points where the held-out loss is more
      than 3 times the training loss, otherwise float64, and Newton's method where L-BFGS has stalled.
    """
    if situation.regime is None:
        return Decision(None, "there is no evidence of generalization")
    # An initialization may be worse than the trivial predictor without having diverged.
    if situation.num_gradients < situation.warm_up:
        return Decision(None, f"the warm-up of {situation.warm_up} gradients is not over")
    name = situation.regime.name.lower().replace("_", "-")
    for remedy, why in _RULES.get(situation.regime, _no_rule)(situation):
        if remedy in situation.available and remedy not in situation.used_up:
            return Decision(remedy, f"{name}: {why}")
    return Decision(None, f"{name}: nothing is due")


def _under_trained(situation: Situation) -> list[tuple[Remedy, str]]:
    ell = f"training loss / reference loss = {situation.normalized_loss:.2g}"
    curriculum = (Remedy.CURRICULUM, f"{ell}, an easier problem first")
    if situation.optimizer == "own":
        # The cheaper of the two comes first: a curriculum takes most of the gradients that are left.
        return [(Remedy.QUASI_NEWTON, f"{ell}, a better optimizer"), curriculum]
    if situation.is_falling:
        return []
    return [curriculum, (Remedy.AUGMENTED_LAGRANGIAN, f"{ell} and a better optimizer has settled")]


def _over_trained(situation: Situation) -> list[tuple[Remedy, str]]:
    why = "the data is fitted and fresh data is not"
    if situation.normalized_heldout_loss is not None:
        why += f" (held-out loss / reference loss = {situation.normalized_heldout_loss:.2g})"
    due = [(Remedy.MORE_POINTS, why)]
    heldout = situation.normalized_heldout_loss
    if heldout is not None and heldout > 1:
        # No better than the trivial predictor between its points, it has settled in another solution.
        due.append((Remedy.CURRICULUM, f"{why}, an easier problem first"))
    return [*due, (Remedy.WEIGHT_DECAY, why)]


def _well_trained(situation: Situation) -> list[tuple[Remedy, str]]:
    if situation.optimizer == "own":
        return [(Remedy.QUASI_NEWTON, "polish by L-BFGS")]
    if situation.is_falling:
        return []
    heldout, due = situation.normalized_heldout_loss, []
    if heldout is not None and heldout > _GAP * situation.normalized_loss:
        ratio = heldout / situation.normalized_loss
        due.append((Remedy.MORE_POINTS, f"the loss has settled, and is {ratio:.2g} times as large on fresh data"))
    if situation.optimizer == "quasi_newton":
        due.append((Remedy.DOUBLE_PRECISION, "L-BFGS has settled, rounding may be what stops it"))
        if situation.is_stalled:
            due.append((Remedy.NEWTON, "L-BFGS has stalled"))
    return due


def _diverged(situation: Situation) -> list[tuple[Remedy, str]]:
    if not math.isfinite(situation.normalized_loss):
        return []  # no rate helps weights that are no numbers
    if situation.earlier_loss is None or situation.normalized_loss < situation.earlier_loss:
        return []  # it may have started up there, and be on its way down
    return [(Remedy.LOWER_LEARNING_RATE, f"training loss / reference loss = {situation.normalized_loss:.2g}")]


def _no_rule(situation: Situation) -> list[tuple[Remedy, str]]:
    return []


_RULES = {
    Regime.UNDER_TRAINED: _under_trained,
    Regime.OVER_TRAINED: _over_trained,
    Regime.WELL_TRAINED: _well_trained,
    Regime.DIVERGED: _diverged,
}
