"""A product of weight matrices, whose Hessian spectrum is known at every step of an aligned training."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

Activation: TypeAlias = Literal["tanh"]

# Float32 layers stay aligned to about 1e-6 in a long training.
_ALIGNED = 1e-3


class DeepLinear(nn.Module):
    r"""The network :math:`F(x) = W^L \cdots W^1 x` without biases: ``(N, d_0)`` to ``(N, d_L)``.

    Weights start from :math:`N(0, \sigma^2)`, until `align` is called.

    Args:
        dims: widths :math:`d_0, \ldots, d_L` from input to output.
        activation: tanh between the layers; None for a linear network.
        standard_deviation: σ.
        seed: of the private generator of all initial values.

    Raises:
        ValueError: fewer than two widths or one below 1, or a standard deviation that is not positive.

    References:
        Deng, Liao, Ouyang, Pang, Yang, Depth, Not Data: An Analysis of Hessian Spectral Bifurcation, arXiv:2602.00545;
        the defaults are those of its published code.
    """

    def __init__(
        self,
        dims: Sequence[int] = (16, 32, 32, 10),
        *,
        activation: Activation | None = None,
        standard_deviation: float = 0.1,
        seed: int = 12138,
    ) -> None:
        super().__init__()
        self.dims = tuple(dims)
        if len(self.dims) < 2 or min(self.dims) < 1:
            raise ValueError(f"`dims` must hold at least two positive widths, input to output, got {self.dims}")
        if activation not in (None, "tanh"):
            raise ValueError(f"`activation` must be 'tanh' or None, got {activation!r}")
        if not standard_deviation > 0:
            raise ValueError(f"`standard_deviation` must be positive, got {standard_deviation}")
        self.activation = activation
        self.standard_deviation = standard_deviation
        self.seed = seed
        generator = torch.Generator().manual_seed(seed)
        self.weights = nn.ParameterList(
            nn.Parameter((standard_deviation * _normal(after, before, generator)).to(torch.get_default_dtype()))
            for before, after in itertools.pairwise(self.dims)
        )

    @property
    def depth(self) -> int:
        """Number of layers L."""
        return len(self.dims) - 1

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs, (N, d_L)."""
        first, *others = self.weights
        outputs: Tensor = inputs @ first.T
        for weight in others:
            outputs = (outputs if self.activation is None else torch.tanh(outputs)) @ weight.T
        return outputs

    def product(self) -> Tensor:
        r"""Return :math:`W^L \cdots W^1`, (d_L, d_0), which a linear network multiplies its inputs by."""
        weights: list[Tensor] = list(self.weights)
        return functools.reduce(lambda below, above: above @ below, weights)

    @torch.no_grad()
    def align(self, target: Tensor) -> None:
        r"""Start from balanced layers in the target's singular vectors.

        .. math:: W^l = Q_l \operatorname{diag}(s) Q_{l-1}^T, \quad T = Q_L \operatorname{diag}(t) Q_0^T, \quad
                  s = \varsigma^{1/L}

        with the singular values ς of a :math:`d_L \times d_0` matrix of entries :math:`N(0, \sigma^2)` and random
        orthogonal :math:`Q_1, \ldots, Q_{L-1}`. Gradient descent on a whitened input keeps this form.

        Args:
            target: T, shape (d_L, d_0).

        Raises:
            ValueError: the shape is another, or the rank exceeds the narrowest layer.
        """
        self._require_shape(target)
        rank = int(torch.linalg.matrix_rank(target.float()))
        if rank > min(self.dims):
            raise ValueError(f"`target` has rank {rank}, which the narrowest of the widths {self.dims} cannot pass")
        generator = torch.Generator().manual_seed(self.seed)
        outer, _, inner = torch.linalg.svd(target.double().cpu())
        start = torch.linalg.svdvals(self.standard_deviation * _normal(self.dims[-1], self.dims[0], generator))
        layer = start[: min(self.dims)] ** (1 / self.depth)
        hidden = [torch.linalg.qr(_normal(width, width, generator)).Q for width in self.dims[1:-1]]
        bases = [inner.T, *hidden, outer]
        for weight, (before, after) in zip(self.weights, itertools.pairwise(bases), strict=True):
            weight.copy_((after[:, : len(layer)] * layer) @ before[:, : len(layer)].T)

    @torch.no_grad()
    def modes(self, target: Tensor) -> tuple[Tensor, Tensor] | None:
        r"""Return the common singular values s of the layers and the residuals :math:`\rho = s^L - t`, or None.

        Args:
            target: T, shape (d_L, d_0).

        Returns:
            Two float64 vectors, as `theory.deep_linear_spectrum` takes them; None where the layers do not share their
            singular values, are not aligned with one another and the target, or have an activation between them.

        Raises:
            ValueError: the target has another shape.
        """
        self._require_shape(target)
        if self.activation is not None:
            return None
        count = min(self.dims)
        weights = [weight.detach().double().cpu() for weight in self.weights]
        layers = torch.stack([torch.linalg.svdvals(weight)[:count] for weight in weights])
        singular_values = layers.mean(0)
        product = functools.reduce(lambda below, above: above @ below, weights)
        outer, values, inner = torch.linalg.svd(product)
        coordinates = outer.T @ target.detach().double().cpu() @ inner.T
        targets = coordinates.diagonal()
        between = coordinates - torch.zeros_like(coordinates).diagonal_scatter(targets)
        powers = torch.zeros_like(values)
        powers[:count] = singular_values**self.depth
        scale = max(1.0, float(values[0]), float(targets.abs().max()))
        errors = (layers - singular_values, values - powers, between)
        if any(float(error.abs().max()) > _ALIGNED * scale for error in errors):
            return None
        return singular_values, values - targets

    def _require_shape(self, target: Tensor) -> None:
        if target.shape != (self.dims[-1], self.dims[0]):
            raise ValueError(
                f"`target` must have shape {(self.dims[-1], self.dims[0])} for the widths {self.dims}, "
                f"got {tuple(target.shape)}"
            )


def _normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)
