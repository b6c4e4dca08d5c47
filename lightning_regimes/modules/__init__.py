"""LightningModules; each loads when it's first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_regimes.modules.augmented_lagrangian import AugmentedLagrangian
    from lightning_regimes.modules.autospec import AutoSpec
    from lightning_regimes.modules.classifier import Classifier
    from lightning_regimes.modules.curriculum import Curriculum
    from lightning_regimes.modules.deep_linear import DeepLinear
    from lightning_regimes.modules.gnn import GNN
    from lightning_regimes.modules.irno import IRNO
    from lightning_regimes.modules.layer_balancing import LayerBalancing
    from lightning_regimes.modules.llama import Llama
    from lightning_regimes.modules.neural_ode import NeuralODE
    from lightning_regimes.modules.neural_operator import NeuralOperator
    from lightning_regimes.modules.noisy_quadratic import NoisyQuadratic
    from lightning_regimes.modules.ode_solver import ODESolver
    from lightning_regimes.modules.physics_penalty import PhysicsPenalty
    from lightning_regimes.modules.pinn import PINN
    from lightning_regimes.modules.region_sampling import RegionSampling

_SUBMODULES = {
    "AutoSpec": "autospec",
    "Classifier": "classifier",
    "AugmentedLagrangian": "augmented_lagrangian",
    "Curriculum": "curriculum",
    "DeepLinear": "deep_linear",
    "IRNO": "irno",
    "GNN": "gnn",
    "LayerBalancing": "layer_balancing",
    "Llama": "llama",
    "NeuralODE": "neural_ode",
    "NeuralOperator": "neural_operator",
    "NoisyQuadratic": "noisy_quadratic",
    "ODESolver": "ode_solver",
    "PINN": "pinn",
    "PhysicsPenalty": "physics_penalty",
    "RegionSampling": "region_sampling",
}

__all__ = [
    "GNN",
    "IRNO",
    "PINN",
    "AugmentedLagrangian",
    "AutoSpec",
    "Classifier",
    "Curriculum",
    "DeepLinear",
    "LayerBalancing",
    "Llama",
    "NeuralODE",
    "NeuralOperator",
    "NoisyQuadratic",
    "ODESolver",
    "PhysicsPenalty",
    "RegionSampling",
]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)
