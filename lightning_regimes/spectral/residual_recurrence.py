"""Approximate inverses by an affine three-term recurrence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_operand


@dataclass(frozen=True)
class ResidualRecurrence:
    r"""A polynomial p with :math:`p(A) \approx A^{-1}`, given by the coefficients of second-order Richardson iteration.

    .. math:: z_1 = \alpha_0 b, \qquad z_{j+1} = z_j + \alpha_j (b - A z_j) + \beta_j (z_j - z_{j-1}), \qquad
        p(A) b = z_d

    Its residual polynomial :math:`r(\lambda) = 1 - \lambda p(\lambda)` of degree d follows the same recurrence,

    .. math:: r_{j+1} = (1 + \beta_j) r_j - \beta_j r_{j-1} - \alpha_j \lambda r_j

    and is 1 at zero whatever the coefficients. To apply p takes d − 1 products and no inner product, so that it is
    linear in b and costs the same every time. Leading dimensions are those of a batch of polynomials.

    Attributes:
        alpha: shape (..., d).
        beta: shape (..., d); the first one has no meaning, and is zero.

    Raises:
        ValueError: the shapes differ, or there are no coefficients.
    """

    alpha: Tensor
    beta: Tensor

    def __post_init__(self) -> None:
        if self.alpha.shape != self.beta.shape or self.alpha.ndim < 1 or self.alpha.shape[-1] < 1:
            raise ValueError(
                "`alpha` and `beta` have one shape (..., d) with d ≥ 1, got "
                f"{tuple(self.alpha.shape)} and {tuple(self.beta.shape)}"
            )

    @property
    def degree(self) -> int:
        """Degree d of the residual polynomial."""
        return self.alpha.shape[-1]

    @property
    def num_matvecs(self) -> int:
        """Products that one application of the inverse takes."""
        return self.degree - 1

    def residual(self, eigenvalues: Tensor) -> Tensor:
        r"""Return :math:`r(\lambda)`, shape (..., n) as λ."""
        values, previous = torch.ones_like(eigenvalues), torch.zeros_like(eigenvalues)
        for alpha, beta in self._coefficients():
            values, previous = values + beta * (values - previous) - alpha * eigenvalues * values, values
        return values

    def inverse(self, eigenvalues: Tensor) -> Tensor:
        r"""Return :math:`p(\lambda)`, shape (..., n) as λ, without the cancellation of :math:`(1 - r) / \lambda`."""
        values, previous = torch.zeros_like(eigenvalues), torch.zeros_like(eigenvalues)
        for alpha, beta in self._coefficients():
            change = alpha * (1 - eigenvalues * values) + beta * (values - previous)
            values, previous = values + change, values
        return values

    def apply(self, operator: LinearOperator, vector: Tensor) -> Tensor:
        """Return p(A) b for a vector (n,), or for each column of a matrix (n, m), in d − 1 products.

        Raises:
            ValueError: this is a batch of polynomials, or the vector does not fit the operator.
            TypeError: the vector has another dtype than the operator.
        """
        require_operand(operator, vector)
        if self.alpha.ndim != 1:
            raise ValueError(f"one polynomial is applied at a time, this is a batch of shape {self.alpha.shape[:-1]}")
        (first, _), *rest = zip(self.alpha.tolist(), self.beta.tolist(), strict=True)
        values: Tensor = first * vector
        previous = torch.zeros_like(vector)
        with held(operator):
            for alpha, beta in rest:
                change = alpha * (vector - operator @ values) + beta * (values - previous)
                values, previous = values + change, values
        return values

    def smallest_inverse(self, upper: Tensor, *, num_points: int = 512) -> Tensor:
        r"""Return the least of :math:`\text{upper} \cdot p(\lambda)` on a grid of :math:`(0, \text{upper}]`.

        Positive where p(A) is positive definite and can precondition conjugate gradients. Half of the points are spaced
        evenly and half as the extrema of Chebyshev polynomials, which crowd at both ends.

        Args:
            upper: shape (...).
            num_points: of the grid.
        """
        steps = torch.arange(1, num_points // 2 + 1, dtype=self.alpha.dtype, device=self.alpha.device)
        steps = steps / len(steps)
        grid = torch.cat([steps, (1 - torch.cos(torch.pi * steps)) / 2])
        points = grid * upper.to(grid).unsqueeze(-1)
        return (self.inverse(points) * upper.unsqueeze(-1)).amin(-1)

    def scaled(self, factor: Tensor | float) -> ResidualRecurrence:
        """Return the polynomial that does for the operator times a positive number, shape (...), what this one does."""
        factor = torch.as_tensor(factor, dtype=self.alpha.dtype, device=self.alpha.device)
        return ResidualRecurrence(self.alpha / factor.unsqueeze(-1), self.beta)

    def to(self, *args: Any, **kwargs: Any) -> ResidualRecurrence:
        """Return the polynomial on another device or in another dtype, as :meth:`torch.Tensor.to` has it."""
        return ResidualRecurrence(self.alpha.to(*args, **kwargs), self.beta.to(*args, **kwargs))

    def _coefficients(self) -> list[tuple[Tensor, Tensor]]:
        """Return the coefficients step by step, each of a shape (..., 1) that goes with the eigenvalues."""
        return list(zip(self.alpha.unsqueeze(-1).unbind(-2), self.beta.unsqueeze(-1).unbind(-2), strict=True))
