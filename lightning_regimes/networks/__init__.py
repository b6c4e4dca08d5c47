"""Plain ``torch.nn`` networks."""

from lightning_regimes.networks.deep_linear import DeepLinear
from lightning_regimes.networks.graph_network import GraphNetwork
from lightning_regimes.networks.llama import Llama
from lightning_regimes.networks.llama_configuration import LLAMA_PRESETS, LlamaConfiguration, llama_preset
from lightning_regimes.networks.mlp import MLP
from lightning_regimes.networks.refinement_convnext import RefinementConvNeXt
from lightning_regimes.networks.refinement_unet import RefinementUNet

__all__ = [
    "LLAMA_PRESETS",
    "MLP",
    "DeepLinear",
    "GraphNetwork",
    "Llama",
    "LlamaConfiguration",
    "RefinementConvNeXt",
    "RefinementUNet",
    "llama_preset",
]
