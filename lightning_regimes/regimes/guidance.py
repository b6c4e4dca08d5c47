"""Which remedy helps in which regime, for which family of models, and how that is known."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal

from lightning_regimes.regimes.classification import Regime
from lightning_regimes.regimes.model_family import ModelFamily

Confidence = Literal["high", "medium", "low"]


class Remedy(enum.StrEnum):
    """What can be changed about a training."""

    QUASI_NEWTON = "quasi_newton"
    """L-BFGS on full batches from here on."""
    SOAP = "soap"
    """Adam in the eigenbasis of Shampoo's preconditioner."""
    NEWTON = "newton"
    """Nyström Newton-CG on full batches from here on."""
    DOUBLE_PRECISION = "double_precision"
    """Float64 from here on."""
    CURRICULUM = "curriculum"
    """An easier problem first, made harder as it is fitted."""
    AUGMENTED_LAGRANGIAN = "augmented_lagrangian"
    """Conditions as constraints, by the method of multipliers."""
    TRAIN_LONGER = "train_longer"
    LEARNING_RATE = "learning_rate"
    """Another rate, a warm-up or another schedule."""
    LARGER_MODEL = "larger_model"
    MORE_POINTS = "more_points"
    """More or other collocation points."""
    REGION_SAMPLING = "region_sampling"
    """Regions in place of collocation points."""
    LONGER_HORIZON = "longer_horizon"
    """Longer trajectories."""
    MORE_DATA = "more_data"
    WEIGHT_DECAY = "weight_decay"
    LOSS_WEIGHTS = "loss_weights"
    """Another weighting of the terms of the loss."""
    LOWER_LEARNING_RATE = "lower_learning_rate"
    """A smaller rate, from weights of before the divergence."""


@dataclass(frozen=True)
class GuidanceRow:
    """One line of the table.

    Attributes:
        regime: where the remedy applies.
        remedy: what is changed.
        advice: the same as an instruction.
        evidence: a publication or a measurement of this project, with its numbers.
        confidence: "high" for what was published and measured here, "medium" for either, "low" for neither.
        families: for which models; empty for all.
    """

    regime: Regime
    remedy: Remedy
    advice: str
    evidence: str
    confidence: Confidence
    families: frozenset[ModelFamily] = frozenset()

    def helps(self, family: ModelFamily) -> bool:
        """Whether the row is for models of this family."""
        return not self.families or family in self.families


_PHYSICS = frozenset({ModelFamily.PHYSICS_INFORMED})
_SCIENTIFIC = frozenset({ModelFamily.PHYSICS_INFORMED, ModelFamily.NEURAL_ODE})
_ON_DATA = frozenset(ModelFamily) - _PHYSICS
_MULTI_REGIME = "Wang et al. 2026, arXiv:2605.29153"

GUIDANCE_TABLE: tuple[GuidanceRow, ...] = (
    GuidanceRow(
        Regime.WELL_TRAINED,
        Remedy.QUASI_NEWTON,
        "If the error must fall further, polish with L-BFGS on full batches.",
        "Convection β = 1, 2→32³→1, 200 points, 4000 gradients, one seed: relative L2 error 0.0072 with Adam, 0.0010 "
        f"with L-BFGS. {_MULTI_REGIME} counts L-BFGS as fit for this regime.",
        "high",
        _SCIENTIFIC,
    ),
    GuidanceRow(
        Regime.WELL_TRAINED,
        Remedy.DOUBLE_PRECISION,
        "Where L-BFGS stops in float32, go on in float64.",
        "Convection β = 10, 2→50³→1, 1000 points, 10000 gradients, one seed: relative L2 error 0.0018 when Newton "
        "steps follow L-BFGS in float32, whose rounding ends it at a loss of 4e-6, and 0.00034 when L-BFGS goes on in "
        "float64, its loss rescaled. arXiv:2505.10949 counts failures of physics-informed networks as failures of "
        "float32.",
        "high",
        _SCIENTIFIC,
    ),
    GuidanceRow(
        Regime.WELL_TRAINED,
        Remedy.NEWTON,
        "Newton steps with conjugate gradients reach further still.",
        f"{_MULTI_REGIME}: about half the error of L-BFGS here. Rathore et al. 2024, arXiv:2402.01868: relative L2 "
        "error from 4.2e-3 to 1.9e-3 (convection), 1.9e-2 to 9.9e-3 (reaction), 5.5e-2 to 1.3e-2 (wave).",
        "medium",
        _SCIENTIFIC,
    ),
    GuidanceRow(
        Regime.UNDER_TRAINED,
        Remedy.CURRICULUM,
        "Train on easier coefficients first and raise them as each is fitted.",
        "Convection β = 30, 2→50³→1, 1000 points, 6400 gradients of L-BFGS, one seed: relative L2 error 0.025 with "
        "30 coefficients. Krishnapriyan et al. 2021, arXiv:2109.01050: 0.897 to 0.020 at β = 30, 0.961 to 0.053 at "
        "β = 40.",
        "high",
        _SCIENTIFIC,
    ),
    GuidanceRow(
        Regime.UNDER_TRAINED,
        Remedy.QUASI_NEWTON,
        "Follow Adam by L-BFGS.",
        "Rathore et al. 2024, arXiv:2402.01868: errors 14.2 times smaller than Adam's (convection), 6.1 times smaller "
        f"than those of L-BFGS alone (wave). {_MULTI_REGIME} finds L-BFGS alone prone to failure here.",
        "medium",
        _SCIENTIFIC,
    ),
    GuidanceRow(
        Regime.UNDER_TRAINED,
        Remedy.SOAP,
        "Train with SOAP in place of Adam.",
        "Convection, 2→32³→1, 1000 points, 1000 gradients, three seeds: relative L2 error 0.0001 to 0.0003 at β = 1 "
        "where L-BFGS ends at 0.0008 to 0.003, and 0.0015 to 0.0023 at β = 10, where it ends at 0.003, 0.006 and 0.57. "
        "At β = 30 it fails as well. Wang et al. 2025, arXiv:2502.00604: errors 2 to 10 times smaller on ten "
        "equations.",
        "high",
        _PHYSICS,
    ),
    GuidanceRow(
        Regime.UNDER_TRAINED,
        Remedy.AUGMENTED_LAGRANGIAN,
        "Treat conditions as constraints by an augmented Lagrangian.",
        f"{_MULTI_REGIME} counts it as good in this regime and as no help in the over-trained one.",
        "medium",
        _SCIENTIFIC,
    ),
    GuidanceRow(
        Regime.UNDER_TRAINED,
        Remedy.TRAIN_LONGER,
        "Train longer while the loss still falls.",
        "The label rests on a loss that further steps lower; the trend over the last fifth says whether they do.",
        "medium",
    ),
    GuidanceRow(
        Regime.UNDER_TRAINED,
        Remedy.LEARNING_RATE,
        "Then change the learning rate, its schedule, or the optimizer.",
        "Yang et al. 2021, arXiv:2107.11228: temperature (batch size, learning rate) moves a run between phases.",
        "medium",
    ),
    GuidanceRow(
        Regime.UNDER_TRAINED,
        Remedy.LARGER_MODEL,
        "A larger network may fit what this one does not.",
        "Yang et al. 2021, arXiv:2107.11228: a small load (wide network) is what makes the loss fall and its minima "
        "connect.",
        "medium",
        frozenset({ModelFamily.CLASSIFIER, ModelFamily.LANGUAGE_MODEL, ModelFamily.OPERATOR}),
    ),
    GuidanceRow(
        Regime.OVER_TRAINED,
        Remedy.MORE_POINTS,
        "Add or resample collocation points.",
        "Convection β = 10, 2→32³→1, L-BFGS, one seed: relative L2 error 1.14 with 200 points, 0.014 with 1000 "
        f"at the same 600 iterations. {_MULTI_REGIME}: no optimizer helps here.",
        "high",
        _PHYSICS,
    ),
    GuidanceRow(
        Regime.OVER_TRAINED,
        Remedy.CURRICULUM,
        "A curriculum on the coefficient helps a little.",
        f"{_MULTI_REGIME} counts it as acceptable in this regime.",
        "low",
        _PHYSICS,
    ),
    GuidanceRow(
        Regime.OVER_TRAINED,
        Remedy.REGION_SAMPLING,
        "Enforce the equation in regions in place of points.",
        "Wu et al. 2024, arXiv:2405.14369.",
        "medium",
        _PHYSICS,
    ),
    GuidanceRow(
        Regime.OVER_TRAINED,
        Remedy.LONGER_HORIZON,
        "Train on longer trajectories.",
        "Pendulum without much damping (1/b = 1), one seed: relative L2 error of the rollout 11.4 after training on "
        "T = 1, 0.47 on T = 5, 0.079 on T = 20.",
        "medium",
        frozenset({ModelFamily.NEURAL_ODE}),
    ),
    GuidanceRow(
        Regime.OVER_TRAINED,
        Remedy.MORE_DATA,
        "Add data, or augment it.",
        f"{_MULTI_REGIME}: the regime is limited by data, and more of it is what ends it.",
        "medium",
        _ON_DATA,
    ),
    GuidanceRow(
        Regime.OVER_TRAINED,
        Remedy.WEIGHT_DECAY,
        "Regularize, by weight decay for instance.",
        "arXiv:2605.30910: for physics-informed networks a penalty on the weights cures failures of this kind.",
        "medium",
    ),
    GuidanceRow(
        Regime.INCONSISTENT,
        Remedy.LOSS_WEIGHTS,
        "Check the weights of the loss terms, and that loss and error measure the same thing.",
        "By definition: the error is low although the loss is not.",
        "high",
    ),
    GuidanceRow(
        Regime.DIVERGED,
        Remedy.LOWER_LEARNING_RATE,
        "Lower the learning rate, warm it up, or clip gradients; check the data for values that are not finite.",
        "A step above 2/λ₁ raises a quadratic; λ₁ is what HessianSpectrum reports.",
        "high",
    ),
)
"""All rows; within a regime, those that help most come first."""


def remedies(regime: Regime, family: ModelFamily = ModelFamily.GENERAL) -> tuple[GuidanceRow, ...]:
    """Return the rows of a regime that are for models of a family, what helps most first."""
    return tuple(row for row in GUIDANCE_TABLE if row.regime is regime and row.helps(family))
