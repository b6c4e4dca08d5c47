"""An approximate inverse of a damped operator, by a fixed number of its products."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import (
    LinearOperator,
    columnwise,
    held,
    require_operand,
    require_symmetric_shape,
)
from lightning_regimes.spectral.chebyshev_recurrence import chebyshev
from lightning_regimes.spectral.guard import guarded
from lightning_regimes.spectral.polynomial_preconditioner import CoefficientRule
from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.spectral_probe import SpectralProbe, lanczos_probe


class DampedInverse:
    r"""The operator :math:`p(H + \mu I) \approx (H + \mu I)^{-1}`, in d − 1 products with H and no inner products.

    It is linear, symmetric and positive definite, costs the same for every vector, and never waits for a number to come
    from the device, as each step of conjugate gradients does; these are more exact for as many products with a single
    vector. It has the shape, dtype, device and ``@`` of the operators of :mod:`lightning_regimes.curvature`, so that
    the estimators of curvlinops take it as it is; :func:`~lightning_regimes.curvature.to_curvlinops` makes it an
    operator of curvlinops, and :func:`~lightning_regimes.curvature.to_scipy` one of SciPy.

    By default the residual polynomial is as small as can be from μ, or from the lowest Ritz value of H + μI if H has a
    negative one, to the upper bound of the probe, so that the error is bounded by :attr:`relative_error` for every
    vector.

    Args:
        operator: H, symmetric n × n, whose negative eigenvalues are smaller than μ.
        damping: μ, positive.
        degree: d.
        rule: makes the coefficients from the probe of H + μI. Those for preconditioners, such as :func:`clipped`, give
            up what few eigenvalues need, and are better for vectors that have little there.
        probe: of H; default ten Lanczos steps.

    Raises:
        ValueError: the damping is not positive, or smaller than a negative eigenvalue of H.

    References:
        J. Martens, Deep learning via Hessian-free optimization, ICML 2010, for the damping; J. Lorraine, P. Vicol,
        D. Duvenaud, Optimizing millions of hyperparameters by implicit differentiation, AISTATS 2020, for Neumann's
        series, which is this with equal :math:`\alpha_j` and no :math:`\beta_j`.
    """

    def __init__(
        self,
        operator: LinearOperator,
        damping: float,
        *,
        degree: int = 16,
        rule: CoefficientRule | None = None,
        probe: SpectralProbe | None = None,
    ) -> None:
        require_symmetric_shape(operator)
        if not damping > 0:
            raise ValueError(f"`damping` is positive, got {damping}")
        self._operator = operator
        #: μ.
        self.damping = damping
        #: What is known about the spectrum of H + μI.
        self.probe = (lanczos_probe(operator) if probe is None else probe).shifted(damping)
        lowest = float(self.probe.ritz[0])
        if not lowest > 0:
            raise ValueError(
                f"`damping` must be larger than the negative eigenvalues are, got {damping} and one of "
                f"{lowest - damping:.3g}"
            )
        #: The lower end of the interval that the default coefficients serve.
        self.lower = damping
        # Rounding of an eigenvalue that is zero does not count as a negative one.
        if lowest < damping - 1e-6 * float(self.probe.upper):
            self.lower = max(lowest - float(self.probe.residuals[0]), lowest / 2)
        with torch.no_grad():
            recurrence = self._chebyshev(degree) if rule is None else rule(self.probe, degree)
        #: The coefficients in use.
        self.recurrence, self.fell_back = guarded(recurrence, self.probe)
        #: Number of products with H so far.
        self.num_matvecs = 0

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
    def relative_error(self) -> float:
        r"""The largest :math:`|r(\lambda)|` between the lower end and the upper bound, in which the probe is trusted.

        It bounds :math:`\|x - (H + \mu I)^{-1} b\| / \|(H + \mu I)^{-1} b\|` in any norm that H commutes with.
        """
        grid = torch.linspace(self.lower, float(self.probe.upper), 2001, dtype=self.recurrence.alpha.dtype)
        return float(self.recurrence.residual(grid.to(self.recurrence.alpha.device)).abs().max())

    def isolated(self) -> AbstractContextManager[None]:
        """Keep what the operator sets up for a product over many products."""
        return held(self._operator)

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return the product with a vector (n,), or column by column with a matrix (n, m).

        Raises:
            TypeError: the tensor has another dtype than the operator.
            ValueError: it has another shape or is on another device.
            ProbeError: as the operator does.
        """
        require_operand(self, other)
        with held(self._operator):
            return columnwise(lambda vector: self.recurrence.apply(_Damped(self), vector), other)

    def _chebyshev(self, degree: int) -> ResidualRecurrence:
        upper = float(self.probe.upper)
        return chebyshev(min(self.lower, 0.9 * upper), upper, degree)


class _Damped:
    """H + μI, which counts products with H."""

    def __init__(self, inverse: DampedInverse) -> None:
        self._inverse = inverse
        self.shape = inverse.shape
        self.dtype = inverse.dtype
        self.device = inverse.device

    def __matmul__(self, other: Tensor) -> Tensor:
        self._inverse.num_matvecs += 1
        image = self._inverse._operator @ other
        return torch.add(image, other, alpha=self._inverse.damping)
