"""A polynomial of an operator in place of its inverse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import LinearOperator, require_symmetric_shape
from lightning_regimes.spectral.chebyshev_recurrence import clipped
from lightning_regimes.spectral.guard import WIDENING, guarded
from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.spectral_probe import SpectralProbe, lanczos_probe

CoefficientRule = Callable[[SpectralProbe, int], ResidualRecurrence]
"""What makes the coefficients for a degree from a probe: a classical rule, or a trained engine."""


class PolynomialPreconditioner:
    r"""The operator :math:`p(A) \approx A^{-1}` of a positive definite A, in d − 1 products and no inner product.

    It lowers the iterations of :func:`cg` by at most d, each of which costs d products: there are never fewer products
    in all. It is worth its while where an inner product is dear (many processes, each waiting for all others), where a
    linear map of fixed cost is wanted, or where many right-hand sides share it. For matrices from differential
    equations, algebraic multigrid is better than any polynomial.

    Coefficients whose inverse is not positive up to where the probe says that the spectrum may end are replaced by
    those of a safe rule (:func:`guarded`).

    Args:
        operator: A, symmetric positive definite n × n.
        degree: d of the residual polynomial.
        rule: makes the coefficients from the probe; default :func:`clipped`. A trained :class:`RecurrenceEngine` is
            one, for its own degree.
        probe: what is known about the spectrum; default ten Lanczos steps.

    Raises:
        ValueError: the degree is below 1, or the probe does not fit a positive definite operator.
    """

    def __init__(
        self,
        operator: LinearOperator,
        *,
        degree: int = 8,
        rule: CoefficientRule = clipped,
        probe: SpectralProbe | None = None,
    ) -> None:
        require_symmetric_shape(operator)
        self._operator = operator
        #: What is known about the spectrum.
        self.probe = lanczos_probe(operator) if probe is None else probe
        if self.probe.ritz.ndim != 1:
            raise ValueError(f"`probe` is of one operator, got a batch of shape {tuple(self.probe.upper.shape)}")
        with torch.no_grad():
            chosen = rule(self.probe, degree)
        #: The coefficients in use.
        self.recurrence, fell_back = guarded(chosen, self.probe)
        #: How often a safe rule took the place of coefficients that were not positive definite.
        self.num_fallbacks = int(fell_back)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, n)``."""
        return self._operator.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the operator."""
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        """Device of the operator."""
        return self._operator.device

    @property
    def num_matvecs_each(self) -> int:
        """Products with the operator that one application takes."""
        return self.recurrence.num_matvecs

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return the product with a vector (n,), or with each column of a matrix (n, m)."""
        return self.recurrence.apply(self._operator, other)

    def widen(self) -> None:
        """Fall back to the clipped rule with an upper bound 1.1 times as large as before."""
        self.probe = replace(self.probe, upper=WIDENING * self.probe.reach)
        self.recurrence = clipped(self.probe, self.recurrence.degree)
        self.num_fallbacks += 1
