"""What a network sees of a probe."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lightning_regimes.spectral.spectral_probe import SpectralProbe

_LEAST = 1e-12
_LARGEST = 4096


def num_features(probe_size: int) -> int:
    """Return how many features a probe of so many values has."""
    return 3 * probe_size + 3


def probe_features(probe: SpectralProbe, probe_size: int) -> Tensor:
    r"""Return decimal logarithms of the probe of an operator whose largest Ritz value is 1, shape (..., 3 m + 3).

    They are of all Ritz values, weights and residuals, of the upper bound less one, of the smallest value once more,
    and of the dimension; each divided by a typical size. A shorter probe, of a space that became invariant, is filled
    up with its smallest value at no weight and no residual. A dimension above 4096, or one that is not known, is taken
    for 4096: the few iterations of a solution do not get to the end of such a space.

    Args:
        probe: relative to its largest value.
        probe_size: m.

    Raises:
        ValueError: the probe has more values.
    """
    missing = probe_size - probe.size
    if missing < 0:
        raise ValueError(f"`probe` has at most {probe_size} values, got {probe.size}: make it with as many steps")
    ritz, weights, residuals = probe.ritz, probe.weights, probe.residuals
    if missing:
        ritz = torch.cat([ritz[..., :1].expand(*ritz.shape[:-1], missing), ritz], -1)
        nothing = torch.zeros_like(ritz[..., :missing])
        weights, residuals = torch.cat([nothing, weights], -1), torch.cat([nothing, residuals], -1)
    parts = torch.cat([ritz, weights, residuals, probe.upper.unsqueeze(-1) - 1, ritz[..., :1]], -1)
    dimension = _LARGEST if probe.dimension is None else min(probe.dimension, _LARGEST)
    size = torch.full_like(ritz[..., :1], math.log10(dimension) - 2.5)
    return torch.cat([parts.clamp(min=_LEAST).log10() / 4 + 0.5, size], -1)
