"""The inverse that is best on an interval, and which interval a probe suggests."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.spectral_probe import SpectralProbe


def chebyshev(lower: Tensor | float, upper: Tensor | float, degree: int) -> ResidualRecurrence:
    r"""Return the recurrence whose residual polynomial is smallest on an interval.

    .. math:: r(\lambda) = \frac{T_d\bigl((\theta - \lambda) / \delta\bigr)}{T_d(\theta / \delta)}, \qquad
        \theta = \frac{a + b}{2}, \quad \delta = \frac{b - a}{2}

    with :math:`\sigma = \theta/\delta`, :math:`\rho_0 = 1/\sigma`, :math:`\rho_j = 1 / (2 \sigma - \rho_{j-1})`,
    :math:`\alpha_0 = 1/\theta`, :math:`\alpha_j = 2 \rho_j / \delta` and :math:`\beta_j = \rho_j \rho_{j-1}`.

    Args:
        lower: a, positive, shape (...).
        upper: b, above a, shape (...).
        degree: d, at least 1.

    Raises:
        ValueError: the interval is empty or reaches zero, or the degree is below 1.

    References:
        Y. Saad, Iterative Methods for Sparse Linear Systems, 2nd ed., algorithm 12.1.
    """
    lower = torch.as_tensor(lower, dtype=torch.float64) if not isinstance(lower, Tensor) else lower
    upper = torch.as_tensor(upper, dtype=lower.dtype, device=lower.device)
    if degree < 1:
        raise ValueError(f"`degree` is at least 1, got {degree}")
    if not bool(((lower > 0) & (lower < upper)).all()):
        raise ValueError(
            f"the interval must satisfy 0 < lower < upper, got {lower.min().item():.3g} and {upper.max().item():.3g}"
        )
    middle, half = (upper + lower) / 2, (upper - lower) / 2
    sigma = middle / half
    ratio = 1 / sigma
    alpha, beta = [1 / middle], [torch.zeros_like(middle)]
    for _ in range(degree - 1):
        following = 1 / (2 * sigma - ratio)
        alpha.append(2 * following / half)
        beta.append(following * ratio)
        ratio = following
    return ResidualRecurrence(torch.stack(alpha, -1), torch.stack(beta, -1))


def clipped_lower(probe: SpectralProbe, degree: int) -> Tensor:
    r"""Return :math:`\max(\theta_1, \; b / (1.5 \, d^2))`, shape (...): where :func:`clipped` begins its interval."""
    floor = probe.upper / (1.5 * degree**2)
    # A probe of one step has its only value at the upper end.
    return torch.maximum(probe.ritz[..., 0], floor).clamp(max=0.9 * probe.upper)


def clipped(probe: SpectralProbe, degree: int) -> ResidualRecurrence:
    r"""Return the Chebyshev recurrence on the part of the spectrum that a polynomial of this degree can serve.

    .. math:: a = \max\Bigl(\theta_1, \; \frac{b}{1.5 \, d^2}\Bigr)

    with the smallest Ritz value :math:`\theta_1` and the upper bound b of the probe. Below b/d² a polynomial of degree
    d is hardly small anywhere, and trying costs accuracy above; what few eigenvalues lie there are found by the
    conjugate gradients themselves.
    """
    return chebyshev(clipped_lower(probe, degree), probe.upper, degree)


def spanning(probe: SpectralProbe, degree: int) -> ResidualRecurrence:
    """Return the Chebyshev recurrence from the smallest Ritz value to the upper bound of the probe."""
    return chebyshev(probe.ritz[..., 0].clamp(min=1e-8 * probe.upper, max=0.9 * probe.upper), probe.upper, degree)


def smoothing(probe: SpectralProbe, degree: int, *, ratio: float = 30.0) -> ResidualRecurrence:
    """Return the Chebyshev recurrence on the upper part of the spectrum, b / ratio to b, as multigrid smoothers are."""
    return chebyshev(probe.upper / ratio, probe.upper, degree)
