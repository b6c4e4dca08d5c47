"""A small network whose outputs are zero before training."""

from __future__ import annotations

import math

import torch
from torch import nn


def corrections(num_inputs: int, width: int, num_outputs: int, seed: int) -> nn.Sequential:
    """Return a network with two hidden layers in float64, whose outputs are zero before training.

    Args:
        num_inputs: features.
        width: of the hidden layers.
        num_outputs: numbers that come out.
        seed: of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = [nn.Linear(a, b, dtype=torch.float64) for a, b in ((num_inputs, width), (width, width))]
    for layer in layers:
        with torch.no_grad():
            bound = 1 / math.sqrt(layer.in_features)
            for parameter in layer.parameters():
                drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(bound * (2 * drawn - 1))
    head = nn.Linear(width, num_outputs, dtype=torch.float64)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), head)
