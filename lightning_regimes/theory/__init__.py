"""Training in closed form, in float64: deep linear networks, and SGD on a quadratic."""

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
from lightning_regimes.theory.quadratic_sgd import QuadraticSGD, SubspaceMoments, quadratic_sgd

__all__ = [
    "Bifurcation",
    "DeepLinearModes",
    "DeepLinearSpectrum",
    "QuadraticSGD",
    "QuadraticTrajectory",
    "SubspaceMoments",
    "bifurcation",
    "deep_linear_modes",
    "deep_linear_spectrum",
    "falling_steps",
    "quadratic_sgd",
    "simulate_quadratic_sgd",
    "steady_alignment",
]
