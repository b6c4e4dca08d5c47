"""The cut of a Chebyshev inverse that suits the density of a spectrum."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_regimes.spectral.chebyshev_recurrence import chebyshev
from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.simulated_cg import iterations_until, simulated_cg
from lightning_regimes.spectral.spectral_probe import SpectralProbe

_POINTS_PER_VALUE = 10
_MOST_POINTS_PER_VALUE = 30
_NUM_CUTS = 40
_NUM_STEPS = 40
_TARGET = 1e-8


def density(probe: SpectralProbe, degree: int) -> ResidualRecurrence:
    r"""Return the Chebyshev recurrence whose lower end makes simulated conjugate gradients fastest.

    The simulation runs on the spectrum that the probe suggests: each Ritz value is spread over its residual, as far as
    half way to its neighbours, so that a converged value remains an isolated point. It becomes as many points as it
    stands for eigenvalues, by its weight and the dimension of the operator, from one to thirty, since conjugate
    gradients are soon done with few low eigenvalues, and not with many; ten if the dimension is not known. Forty lower
    ends, from :math:`b / (16 d^2)` to b/2 in equal ratios, are tried there, and the one that needs the fewest
    iterations for an error of 1e-8 is taken. Nothing is learned.

    Args:
        probe: of one operator.
        degree: d.

    Raises:
        ValueError: the probe is of several operators.
    """
    if probe.ritz.ndim != 1:
        raise ValueError(f"`probe` is of one operator, got a batch of shape {tuple(probe.upper.shape)}")
    eigenvalues, weights = spread_spectrum(probe)
    ratios = torch.linspace(math.log(1 / (16 * degree**2)), math.log(0.5), _NUM_CUTS, dtype=torch.float64).exp()
    upper = probe.upper.double().cpu()
    candidates = chebyshev(ratios * upper, upper.expand(_NUM_CUTS), degree)
    eigenvalues = eigenvalues.expand(_NUM_CUTS, -1)
    inverse = candidates.inverse(eigenvalues).clamp(min=1e-6 / float(upper))
    errors = simulated_cg(eigenvalues, weights.sqrt().expand(_NUM_CUTS, -1), inverse, _NUM_STEPS)
    return chebyshev(ratios[iterations_until(errors, _TARGET).argmin()] * upper, upper, degree).to(probe.ritz)


def spread_spectrum(probe: SpectralProbe) -> tuple[Tensor, Tensor]:
    """Return eigenvalues and weights in float64, each Ritz value spread over its residual; see :func:`density`."""
    ritz, weights, residuals = (part.double().cpu() for part in (probe.ritz, probe.weights, probe.residuals))
    upper = probe.upper.double().cpu()
    ritz = ritz.clamp(min=1e-8 * float(upper))
    middles = (ritz[:-1] + ritz[1:]) / 2
    # A residual may be larger than the lowest value; a ratio of 30 is as far as a few steps may have missed it.
    start = torch.maximum(ritz - residuals, torch.cat([ritz[:1] / 30, middles]))
    end = torch.minimum(ritz + residuals, torch.cat([middles, upper.clamp(min=float(ritz[-1]))[None]]))
    if probe.dimension is None:
        counts = torch.full(ritz.shape, _POINTS_PER_VALUE)
    else:
        counts = (probe.dimension * weights).round().clamp(1, _MOST_POINTS_PER_VALUE).long()
    value = torch.arange(len(ritz)).repeat_interleave(counts)
    place = torch.arange(len(value)) - (counts.cumsum(0) - counts)[value]
    fraction = (place.double() + 0.5) / counts[value]
    return start[value] + (end - start)[value] * fraction, (weights / counts)[value]
