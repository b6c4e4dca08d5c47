"""Functions of an operator by a series of Chebyshev polynomials."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_operand

Damping = Literal["none", "jackson", "lanczos"]


@dataclass(frozen=True)
class ChebyshevSeries:
    r"""The polynomial :math:`P(\lambda) = \sum_{k=0}^{d} c_k T_k(x)`, with x from −1 at a to 1 at b.

    .. math:: x = \frac{2 \lambda - a - b}{b - a}

    Evaluated and applied by Clenshaw's recurrence, in d products and without inner products. Leading dimensions are
    those of a batch of series.

    Attributes:
        coefficients: c, shape (..., d + 1).
        lower: a, shape (...).
        upper: b, shape (...).

    Raises:
        ValueError: there are no coefficients, or an interval is empty.
    """

    coefficients: Tensor
    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        if self.coefficients.ndim < 1 or self.coefficients.shape[-1] < 1:
            raise ValueError(f"`coefficients` have shape (..., d + 1), got {tuple(self.coefficients.shape)}")
        for name in ("lower", "upper"):
            bound = torch.as_tensor(getattr(self, name), dtype=self.coefficients.dtype).to(self.coefficients.device)
            object.__setattr__(self, name, bound)
        if not bool((self.lower < self.upper).all()):
            raise ValueError("`lower` must be below `upper`")

    @classmethod
    def interpolating(
        cls, function: Callable[[Tensor], Tensor], lower: Tensor | float, upper: Tensor | float, degree: int
    ) -> ChebyshevSeries:
        r"""Return the series that agrees with a function at the d + 1 zeros of :math:`T_{d+1}`.

        Its error is at most :math:`2 + \frac{2}{\pi} \log(d + 1)` times that of the best polynomial.

        Args:
            function: of λ, elementwise.
            lower: a, shape (...).
            upper: b, shape (...).
            degree: d.

        References:
            L. N. Trefethen, Approximation Theory and Approximation Practice, 2013, chapters 2 and 15.
        """
        lower = torch.as_tensor(lower, dtype=torch.float64) if not isinstance(lower, Tensor) else lower
        upper = torch.as_tensor(upper, dtype=lower.dtype, device=lower.device)
        angles = (torch.arange(degree + 1, dtype=lower.dtype, device=lower.device) + 0.5) * math.pi / (degree + 1)
        nodes = (upper + lower).unsqueeze(-1) / 2 + (upper - lower).unsqueeze(-1) / 2 * angles.cos()
        waves = (torch.arange(degree + 1, dtype=lower.dtype, device=lower.device)[:, None] * angles).cos()
        coefficients = function(nodes) @ waves.T * (2 / (degree + 1))
        halves = torch.ones(degree + 1, dtype=lower.dtype, device=lower.device)
        halves[0] = 0.5
        return cls(coefficients * halves, lower, upper)

    @property
    def degree(self) -> int:
        """Degree d, which is also the number of products of one application."""
        return self.coefficients.shape[-1] - 1

    def evaluate(self, eigenvalues: Tensor) -> Tensor:
        r"""Return :math:`P(\lambda)`, shape (..., n) as λ."""
        lower, upper = self.lower.unsqueeze(-1), self.upper.unsqueeze(-1)
        x = (2 * eigenvalues - lower - upper) / (upper - lower)
        following, second = torch.zeros_like(x), torch.zeros_like(x)
        for coefficient in self.coefficients.unsqueeze(-1).flip(-2).unbind(-2)[:-1]:
            following, second = coefficient + 2 * x * following - second, following
        return self.coefficients[..., :1] + x * following - second

    def apply(self, operator: LinearOperator, vector: Tensor) -> Tensor:
        """Return P(A) b for a vector (n,), or for each column of a matrix (n, m), in d products.

        Raises:
            ValueError: this is a batch of series, or the vector does not fit the operator.
            TypeError: the vector has another dtype than the operator.
        """
        require_operand(operator, vector)
        if self.coefficients.ndim != 1:
            raise ValueError(f"one series is applied at a time, this is a batch of {self.coefficients.shape[:-1]}")
        first, *rest = self.coefficients.tolist()
        constant: Tensor = first * vector
        if not rest:
            return constant
        lower, upper = float(self.lower), float(self.upper)
        scale, shift = 2 / (upper - lower), (upper + lower) / (upper - lower)
        with held(operator):
            # From the top of Clenshaw's recurrence, where a product with zero would be wasted.
            following, second = rest[-1] * vector, torch.zeros_like(vector)
            for coefficient in reversed(rest[:-1]):
                image = scale * (operator @ following) - shift * following
                following, second = coefficient * vector + 2 * image - second, following
            image = scale * (operator @ following) - shift * following
        return constant.add_(image).sub_(second)

    def to(self, *args: Any, **kwargs: Any) -> ChebyshevSeries:
        """Return the series on another device or in another dtype, as :meth:`torch.Tensor.to` has it."""
        parts = (self.coefficients, self.lower, self.upper)
        return ChebyshevSeries(*(part.to(*args, **kwargs) for part in parts))

    def damped(self, damping: Damping) -> ChebyshevSeries:
        r"""Return the series with damped coefficients, which does not overshoot at a jump of the function.

        ``"jackson"`` makes the kernel positive, so that a series of a function between 0 and 1 stays there;
        ``"lanczos"`` multiplies by :math:`\operatorname{sinc}(k / (d + 1))`, and widens jumps half as much.

        Raises:
            ValueError: another damping.

        References:
            Y. Saad, L. Lin, C. Yang, Approximating spectral densities of large matrices, SIAM Review 58 (2016),
            doi:10.1137/130934283; formulas 12 and 13.
        """
        return ChebyshevSeries(
            self.coefficients * damping_factors(self.degree, damping).to(self.coefficients), self.lower, self.upper
        )


def damping_factors(degree: int, damping: Damping) -> Tensor:
    """Return the factors of the coefficients, shape (degree + 1,), float64; see :meth:`ChebyshevSeries.damped`."""
    if damping not in get_args(Damping):
        raise ValueError(f"`damping` is one of {', '.join(get_args(Damping))}, got {damping!r}")
    index = torch.arange(degree + 1, dtype=torch.float64)
    if damping == "none":
        return torch.ones_like(index)
    if damping == "lanczos":
        return torch.sinc(index / (degree + 1))
    angle = math.pi / (degree + 2)
    return ((degree + 2 - index) * (index * angle).cos() + (index * angle).sin() / math.tan(angle)) / (degree + 2)
