"""What a few products with an operator say about its spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_regimes.curvature.krylov import Eigenpairs
from lightning_regimes.curvature.krylov_space import KrylovSpace
from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape

INFLATION = 1.05
"""How far above the largest Ritz value and its residual the upper bound lies.

Ten steps leave that sum between 0.985 and 1.07 of the largest eigenvalue, and a polynomial that is positive up to a
bound is often negative just above it.
"""


@dataclass(frozen=True)
class SpectralProbe:
    r"""Ritz values of a symmetric operator, how much of the start vector each holds, and how far off each is.

    The values and weights are a quadrature rule for the spectrum as the start vector sees it:

    .. math:: v^T f(A) v \approx \sum_i w_i f(\theta_i)

    Leading dimensions are those of a batch of operators.

    Attributes:
        ritz: :math:`\theta`, ascending, shape (..., m).
        weights: w, shape (..., m), with sum 1.
        residuals: :math:`\|A y_i - \theta_i y_i\|`, shape (..., m).
        upper: above the largest eigenvalue as far as one can tell, shape (...).
        dimension: n of the operator, or of all in a batch; None where it is not known.

    Raises:
        ValueError: the shapes do not fit.
    """

    ritz: Tensor
    weights: Tensor
    residuals: Tensor
    upper: Tensor
    dimension: int | None = None

    def __post_init__(self) -> None:
        if not self.ritz.shape == self.weights.shape == self.residuals.shape or not self.ritz.shape[-1:]:
            raise ValueError(
                "`ritz`, `weights` and `residuals` have one shape (..., m), got "
                f"{[tuple(part.shape) for part in (self.ritz, self.weights, self.residuals)]}"
            )
        if self.upper.shape != self.ritz.shape[:-1]:
            raise ValueError(
                f"`upper` has shape {tuple(self.ritz.shape[:-1])} beside these values, got {tuple(self.upper.shape)}"
            )

    @classmethod
    def from_ritz(
        cls,
        ritz: Tensor,
        weights: Tensor,
        residuals: Tensor,
        *,
        dimension: int | None = None,
        inflation: float = INFLATION,
    ) -> SpectralProbe:
        r"""Return a probe with the upper bound :math:`\text{inflation} \cdot \max_i (\theta_i + \text{residual}_i)`."""
        return cls(ritz, weights, residuals, inflation * (ritz + residuals).amax(-1), dimension)

    @classmethod
    def from_eigenpairs(cls, pairs: Eigenpairs, vector: Tensor | None = None) -> SpectralProbe:
        """Return what a search for eigenpairs has found on the way, without a further product.

        Args:
            pairs: the k eigenpairs, to which the value at the other end of the spectrum is added.
            vector: whose part in each eigenvector is its weight, shape (n,); what is left goes to the other end.
                Default: equal weights.
        """
        values = pairs.values.detach().to("cpu", torch.float64)
        residuals = pairs.residuals.detach().to("cpu", torch.float64)
        opposite = torch.tensor([pairs.opposite_value], dtype=torch.float64)
        ritz = torch.cat([values, opposite])
        residuals = torch.cat([residuals, torch.tensor([pairs.opposite_residual], dtype=torch.float64)])
        if vector is None:
            weights = torch.full_like(ritz, 1 / len(ritz))
        else:
            parts = (pairs.vectors.T @ vector.to(pairs.vectors)).to("cpu", torch.float64).square()
            parts = parts / vector.detach().to("cpu", torch.float64).square().sum()
            weights = torch.cat([parts, (1 - parts.sum()).clamp(min=0)[None]])
        order = ritz.argsort()
        return cls.from_ritz(ritz[order], weights[order], residuals[order], dimension=pairs.vectors.shape[0])

    @property
    def size(self) -> int:
        """Number m of Ritz values."""
        return self.ritz.shape[-1]

    @property
    def reach(self) -> Tensor:
        r"""The upper bound that the Ritz values themselves ask for, or ``upper`` where that is larger, shape (...)."""
        return torch.maximum(self.upper, INFLATION * (self.ritz + self.residuals).amax(-1))

    def scaled(self, factor: Tensor | float) -> SpectralProbe:
        """Return the probe of the operator times a positive number, shape (...)."""
        factor = torch.as_tensor(factor, dtype=self.ritz.dtype, device=self.ritz.device)
        along = factor.unsqueeze(-1)
        return SpectralProbe(
            self.ritz * along, self.weights, self.residuals * along, self.upper * factor, self.dimension
        )

    def shifted(self, shift: float) -> SpectralProbe:
        r"""Return the probe of :math:`A + \mu I`."""
        return SpectralProbe(self.ritz + shift, self.weights, self.residuals, self.upper + shift, self.dimension)

    def noisy(self, relative: float, generator: torch.Generator | None = None) -> SpectralProbe:
        r"""Return a probe whose Ritz values are off by up to a fraction, and which knows that.

        .. math:: \theta_i (1 + \epsilon u_i), \quad u_i \sim U(-1, 1)

        The upper bound is :math:`1 + \epsilon` times what the values that are off ask for.

        Args:
            relative: ε.
            generator: of the random numbers.
        """
        noise = torch.rand(self.ritz.shape, generator=generator, dtype=self.ritz.dtype).to(self.ritz.device)
        ritz, order = (self.ritz * (1 + relative * (2 * noise - 1))).sort(-1)
        weights, residuals = self.weights.gather(-1, order), self.residuals.gather(-1, order)
        return SpectralProbe.from_ritz(
            ritz, weights, residuals, dimension=self.dimension, inflation=INFLATION * (1 + relative)
        )

    def to(self, *args: Any, **kwargs: Any) -> SpectralProbe:
        """Return the probe on another device or in another dtype, as :meth:`torch.Tensor.to` has it."""
        ritz, weights, residuals, upper = (
            part.to(*args, **kwargs) for part in (self.ritz, self.weights, self.residuals, self.upper)
        )
        return SpectralProbe(ritz, weights, residuals, upper, self.dimension)


def lanczos_probe(
    operator: LinearOperator, *, num_steps: int = 10, start: Tensor | None = None, seed: int = 0
) -> SpectralProbe:
    r"""Return what so many Lanczos steps with full reorthogonalisation say, for that many products.

    Args:
        operator: symmetric n × n operator.
        num_steps: products; no more than n are spent.
        start: vector, shape (n,); default a normal random one.
        seed: of the random vector.

    Returns:
        A probe in float64 on the CPU, of as many values as there were steps before the space became invariant.

    Raises:
        ValueError: there are no steps, or ``start`` is zero or has another shape.
        ProbeError: a product is not finite.
    """
    size = require_symmetric_shape(operator)
    if num_steps < 1:
        raise ValueError(f"`num_steps` is at least 1, got {num_steps}")
    if start is not None and (tuple(start.shape) != (size,) or not bool(start.any())):
        raise ValueError(f"`start` is a vector ({size},) other than zero, got shape {tuple(start.shape)}")
    space = KrylovSpace(operator, min(num_steps + 1, size), operator.device, seed)
    with held(operator):
        space.begin(space.random_vector() if start is None else start)
        for _ in range(min(num_steps, size)):
            if not space.has_pending:
                break
            space.multiply()
    pairs = space.ritz_pairs()
    weights = pairs.coefficients[0] ** 2
    parts = (torch.from_numpy(part.copy()) for part in (pairs.values, weights, pairs.residuals))
    return SpectralProbe.from_ritz(*parts, dimension=size)
