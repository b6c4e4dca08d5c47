"""Plain ``torch.nn`` networks."""

from lightning_regimes.networks.deep_linear import DeepLinear
from lightning_regimes.networks.mlp import MLP

__all__ = ["MLP", "DeepLinear"]
