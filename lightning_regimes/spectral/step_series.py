"""A polynomial that passes one part of the spectrum and stops the rest."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_regimes.spectral.chebyshev_series import ChebyshevSeries, Damping


def step_filter(
    band: tuple[float, float],
    *,
    lower: Tensor | float,
    upper: Tensor | float,
    degree: int,
    damping: Damping = "jackson",
) -> ChebyshevSeries:
    r"""Return the series of the function that is 1 on a band and 0 elsewhere in a spectrum.

    .. math:: c_0 = \frac{\phi_1 - \phi_2}{\pi}, \qquad c_k = \frac{2}{\pi} \,
        \frac{\sin k \phi_1 - \sin k \phi_2}{k}

    with :math:`\phi_i = \arccos x_i` of the ends :math:`x_1 < x_2` of the band. Its trace is the number of eigenvalues
    in the band.

    Args:
        band: its two ends; parts outside the spectrum do not matter.
        lower: a bound below the spectrum.
        upper: a bound above the spectrum.
        degree: d.
        damping: ``"jackson"`` keeps the filter between 0 and 1, ``"lanczos"`` is steeper and overshoots a little,
            ``"none"`` is steepest and overshoots by nine per cent.

    Raises:
        ValueError: the band or the spectrum is empty.

    References:
        E. Di Napoli, E. Polizzi, Y. Saad, Efficient estimation of eigenvalue counts in an interval, Numer. Linear
        Algebra Appl. 23 (2016), doi:10.1002/nla.2048.
    """
    if not band[0] < band[1]:
        raise ValueError(f"`band` is a smaller and a larger number, got {band}")
    start, end = float(lower), float(upper)
    if not start < end:
        raise ValueError(f"`lower` must be below `upper`, got {start:.3g} and {end:.3g}")
    first, second = (math.acos(min(max((2 * edge - start - end) / (end - start), -1.0), 1.0)) for edge in band)
    index = torch.arange(1, degree + 1, dtype=torch.float64)
    rest = 2 / math.pi * ((index * first).sin() - (index * second).sin()) / index
    coefficients = torch.cat([torch.tensor([(first - second) / math.pi], dtype=torch.float64), rest])
    bounds = (torch.tensor(bound, dtype=torch.float64) for bound in (start, end))
    return ChebyshevSeries(coefficients, *bounds).damped(damping)
