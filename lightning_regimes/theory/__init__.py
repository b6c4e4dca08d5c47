"""Training in closed form, in float64: linear networks, and SGD on a quadratic."""

from lightning_regimes.theory.constant_step_size import (
    QuadraticTrajectory,
    falling_steps,
    simulate_quadratic_sgd,
    steady_alignment,
)
from lightning_regimes.theory.deep_linear import (
    Bifurcation,
    DeepLinearModes,
    DeepLinearSpectrum,
    bifurcation,
    deep_linear_modes,
    deep_linear_spectrum,
)
from lightning_regimes.theory.layer_balancing import relative_angles, three_layer_loss, two_layer_loss
from lightning_regimes.theory.layer_balancing_split import OptimalSplit, optimal_split
from lightning_regimes.theory.layer_balancing_surrogate import (
    equal_split_threshold,
    three_layer_surrogate_loss,
    two_layer_surrogate_loss,
)
from lightning_regimes.theory.quadratic_sgd import QuadraticSGD, SubspaceMoments, quadratic_sgd

__all__ = [
    "Bifurcation",
    "DeepLinearModes",
    "DeepLinearSpectrum",
    "OptimalSplit",
    "QuadraticSGD",
    "QuadraticTrajectory",
    "SubspaceMoments",
    "bifurcation",
    "deep_linear_modes",
    "deep_linear_spectrum",
    "equal_split_threshold",
    "falling_steps",
    "optimal_split",
    "quadratic_sgd",
    "relative_angles",
    "simulate_quadratic_sgd",
    "steady_alignment",
    "three_layer_loss",
    "three_layer_surrogate_loss",
    "two_layer_loss",
    "two_layer_surrogate_loss",
]
