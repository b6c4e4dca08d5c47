"""The fully connected network of physics-informed training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

Activation: TypeAlias = Literal["tanh", "sin", "gelu", "silu", "softplus"]


class Sine(nn.Module):
    """The sine as an activation."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return ``sin(inputs)``."""
        return torch.sin(inputs)


_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "sin": Sine,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


class MLP(nn.Module):
    """A fully connected network with smooth activations: ``(N, num_inputs)`` to ``(N, num_outputs)``.

    Weights start from Xavier's normal distribution, biases from zero. A domain maps each input to ``[−1, 1]`` first. A
    period ``L`` replaces its input ``x`` by ``cos(2πx/L), sin(2πx/L)``, so that the network is exactly periodic in it.

    Args:
        num_inputs: number of coordinates.
        num_outputs: number of fields.
        hidden_sizes: width of each hidden layer.
        activation: smooth, since differential equations need its derivatives: ReLU isn't offered.
        domain: lower and upper end of each input; raw inputs without it.
        periods: period of each input, None for those that aren't periodic.

    Attributes:
        arguments: what it was made with, for configuration files and checkpoints.

    Raises:
        ValueError: a size isn't positive, the activation is unknown, or ``domain`` or ``periods`` don't fit.

    References:
        X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
        S. Dong, N. Ni, "A method for representing periodic functions and enforcing exactly periodic boundary conditions
        with deep neural networks", Journal of Computational Physics 435, 2021, arXiv:2007.07442.
    """

    center: Tensor
    half_width: Tensor

    def __init__(
        self,
        num_inputs: int = 2,
        num_outputs: int = 1,
        *,
        hidden_sizes: Sequence[int] = (50, 50, 50),
        activation: Activation = "tanh",
        domain: Sequence[tuple[float, float]] | None = None,
        periods: Sequence[float | None] | None = None,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "num_inputs": num_inputs,
            "num_outputs": num_outputs,
            "hidden_sizes": list(hidden_sizes),
            "activation": activation,
            "domain": domain,
            "periods": periods,
        }
        if min([num_inputs, num_outputs, *hidden_sizes]) < 1:
            raise ValueError(
                f"All sizes must be at least 1, got {num_inputs=}, {num_outputs=}, hidden_sizes={list(hidden_sizes)}."
            )
        if activation not in _ACTIVATIONS:
            raise ValueError(f"`activation` must be one of {', '.join(_ACTIVATIONS)}, got {activation!r}.")
        for name, entries in (("domain", domain), ("periods", periods)):
            if entries is not None and len(entries) != num_inputs:
                raise ValueError(f"`{name}` must have one entry for each of {num_inputs} inputs, got {len(entries)}.")
        self.periods = tuple(periods) if periods is not None else (None,) * num_inputs
        for period in self.periods:
            if period is not None and not period > 0:
                raise ValueError(f"Each period must be positive or None, got {period}.")

        ends = torch.tensor(domain if domain is not None else [(-1.0, 1.0)] * num_inputs, dtype=torch.float64)
        if not bool((ends[:, 1] > ends[:, 0]).all()):
            raise ValueError(f"Each entry of `domain` must be (lower, upper) with lower < upper, got {domain}.")
        self.rescales = domain is not None
        # Fixed by the arguments, hence neither parameters nor part of a checkpoint.
        self.register_buffer("center", ends.mean(dim=1).to(torch.get_default_dtype()), persistent=False)
        self.register_buffer("half_width", (ends.diff(dim=1)[:, 0] / 2).to(torch.get_default_dtype()), persistent=False)

        num_features = num_inputs + sum(period is not None for period in self.periods)
        sizes = [num_features, *hidden_sizes, num_outputs]
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise(sizes):
            linear = nn.Linear(fan_in, fan_out)
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)
            layers += [linear, _ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, points: Tensor) -> Tensor:
        """Return the values at points ``(N, num_inputs)`` as ``(N, num_outputs)``."""
        return self.layers(self._features(points))  # type: ignore[no-any-return]

    def _features(self, points: Tensor) -> Tensor:
        scaled = (points - self.center) / self.half_width if self.rescales else points
        if all(period is None for period in self.periods):
            return scaled
        columns = []
        for axis, period in enumerate(self.periods):
            if period is None:
                columns.append(scaled[:, axis : axis + 1])
            else:
                angle = 2 * math.pi / period * points[:, axis : axis + 1]
                columns += [torch.cos(angle), torch.sin(angle)]
        return torch.cat(columns, dim=1)
