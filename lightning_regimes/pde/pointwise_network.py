"""A network whose parameters may differ from point to point, or change to first order."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from lightning_regimes.pde.derivatives import Field


class PointwiseNetwork:
    """A network in float64 as a function of points and of its parameters, which are those of when it is made.

    Args:
        network: from ``(N, d)`` to ``(N, m)``, each row on its own; evaluated in its present mode, left as it is.
        device: where to evaluate it, which must know float64.

    Raises:
        ValueError: a parameter or buffer is complex.

    Attributes:
        parameters: those of the network, flattened, ``(P,)``.
    """

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self._network = network
        named = dict(network.named_parameters())
        for name, entry in (*named.items(), *network.named_buffers()):
            if entry.is_complex():
                raise ValueError(f"`network` has real parameters and buffers, but {name} is {entry.dtype}")
        self._shapes = {name: parameter.shape for name, parameter in named.items()}
        self._sizes = [parameter.numel() for parameter in named.values()]
        self.parameters = torch.cat([_double(parameter.detach().reshape(-1), device) for parameter in named.values()])
        self._buffers = {
            name: _double(buffer, device) if buffer.is_floating_point() else buffer.to(device)
            for name, buffer in network.named_buffers()
        }

    def pointwise_field(self, parameters: Tensor) -> Field:
        """Return the field with parameters ``(N, P)`` of its own at each point, for blocks of ``N`` points."""

        def value(own: Tensor, point: Tensor) -> Tensor:
            return self._evaluate(own, point[None])[0]

        def field(points: Tensor) -> Tensor:
            blocks, rest = divmod(points.shape[0], parameters.shape[0])
            if rest:
                raise ValueError(
                    f"a residual at {parameters.shape[0]} points evaluated the field at {points.shape[0]}, which is "
                    "no multiple: which points belong together can't be told"
                )
            return vmap(value)(parameters.repeat(blocks, 1), points)

        return field

    def changed_field(self, step: Tensor) -> Field:
        """Return the field ``u + ∂_θ u · step``, for a step ``(P,)`` of the parameters."""

        def field(points: Tensor) -> Tensor:
            found = jvp(lambda parameters: self._evaluate(parameters, points), (self.parameters,), (step,))
            changed: Tensor = found[0] + found[1]
            return changed

        return field

    def _evaluate(self, parameters: Tensor, points: Tensor) -> Tensor:
        parts = parameters.split(self._sizes)
        named = {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}
        output: Tensor = functional_call(self._network, {**named, **self._buffers}, (points,))
        return output


def _double(values: Tensor, device: torch.device | str) -> Tensor:
    # In this order: there are devices without float64.
    return values.to(device).double()
