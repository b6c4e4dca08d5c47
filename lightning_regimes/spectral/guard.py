"""A polynomial inverse that is positive on the whole spectrum, or one that takes its place."""

from __future__ import annotations

from dataclasses import replace

from lightning_regimes.spectral.chebyshev_recurrence import clipped
from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.spectral_probe import SpectralProbe

WIDENING = 1.1
"""Factor of the upper bound in a fall-back."""


def guarded(recurrence: ResidualRecurrence, probe: SpectralProbe) -> tuple[ResidualRecurrence, bool]:
    """Return a recurrence whose inverse is positive up to where the spectrum may end, and whether it is another one.

    An inverse that is negative at an eigenvalue ruins conjugate gradients. It is evaluated on 512 points up to the
    upper bound of the probe, or to what its Ritz values and their residuals ask for if that is more
    (:attr:`SpectralProbe.reach`). Where it is not positive, the clipped Chebyshev rule with an upper bound 1.1 times
    as large takes its place.

    Args:
        recurrence: of one operator.
        probe: what is known about its spectrum.

    Raises:
        ValueError: a batch of polynomials, or an upper bound that is not positive.
    """
    reach = probe.reach
    if recurrence.alpha.ndim != 1:
        raise ValueError(f"`recurrence` is one polynomial, got a batch of shape {tuple(recurrence.alpha.shape[:-1])}")
    if not bool(reach > 0):
        raise ValueError(f"the spectrum of a positive definite operator ends above zero, got {float(reach):.3g}")
    if bool(recurrence.smallest_inverse(reach) > 0):
        return recurrence, False
    return clipped(replace(probe, upper=WIDENING * reach), recurrence.degree), True
