"""A network that reads a probe and writes a filter for the largest eigenvalues."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_regimes.spectral.chebyshev_series import ChebyshevSeries
from lightning_regimes.spectral.corrections import corrections
from lightning_regimes.spectral.probe_features import num_features, probe_features
from lightning_regimes.spectral.spectral_probe import SpectralProbe


class FilterEngine(nn.Module):
    r"""Corrections of a Chebyshev filter of the largest eigenvalues, learned in the manner of AutoSpec.

    The filter :math:`T_d` is small on an interval and grows as fast as a polynomial can above it. The interval reaches
    from the lowest Ritz value less its residual to the height above which, by the weights of the probe, the share m/n
    of all eigenvalues lies. A network moves that end by a factor of its distance from the top, and adds to the lower
    coefficients,

    .. math:: \theta - (\theta - a) e^{c}, \qquad T_d + \tfrac15 \sum_{k<d} \tanh(u_k) T_k

    and is the classical filter before training. All is divided by the value at the largest Ritz value θ.

    Args:
        degree: d.
        probe_size: Ritz values of the probes; one that has fewer is filled up.
        width: of the two hidden layers.
        seed: of the initial weights.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, degree: int = 8, *, probe_size: int = 10, width: int = 96, seed: int = 0) -> None:
        super().__init__()
        if degree < 1 or probe_size < 1 or width < 1:
            raise ValueError(
                f"`degree`, `probe_size` and `width` are at least 1, got {degree}, {probe_size} and {width}"
            )
        self.degree = degree
        self.probe_size = probe_size
        self.network = corrections(num_features(probe_size) + 1, width, degree + 1, seed)

    def forward(self, probe: SpectralProbe, share: Tensor) -> ChebyshevSeries:
        """Return the filters for a probe, or for each of a batch.

        Args:
            probe: of positive definite operators.
            share: m/n, vectors that are kept over the size of the operator, shape (...).

        Raises:
            ValueError: the probe has too many values.
        """
        parameter, device = next(self.network.parameters()), probe.ritz.device
        probe = probe.to(parameter.device, parameter.dtype)
        share = share.to(parameter)
        scale = probe.ritz[..., -1]
        relative = probe.scaled(1 / scale)
        features = torch.cat([probe_features(relative, self.probe_size), share.log10().unsqueeze(-1) / 4 + 0.5], -1)
        cut, added = self.network(features).split([1, self.degree], dim=-1)
        lower = relative.ritz[..., 0] - relative.residuals[..., 0]
        height = quantile(relative, share)
        end = 1 - (1 - height) * cut.squeeze(-1).exp()
        end = torch.maximum(end, lower + 0.05 * (1 - lower)).clamp(max=0.9999)
        coefficients = torch.cat([0.2 * added.tanh(), torch.ones_like(added[..., :1])], -1)
        series = ChebyshevSeries(coefficients, lower, end)
        top = series.evaluate(torch.ones_like(end).unsqueeze(-1))
        return ChebyshevSeries(coefficients / top, lower * scale, end * scale).to(device)


def quantile(probe: SpectralProbe, share: Tensor) -> Tensor:
    """Return the height above which a share of all eigenvalues lies by the weights of the probe, shape (...).

    Half of the weight of a Ritz value counts as above it, and the heights between are interpolated; above the second
    Ritz value they stay a little below the largest one, since it says nothing on how many eigenvalues are like it.

    Args:
        probe: of operators.
        share: between 0 and 1, shape (...).
    """
    above = probe.weights.flip(-1).cumsum(-1) - probe.weights.flip(-1) / 2
    heights = probe.ritz.flip(-1)
    index = torch.searchsorted(above, share.unsqueeze(-1)).clamp(1, probe.size - 1)
    first, second = above.gather(-1, index - 1), above.gather(-1, index)
    fraction = ((share.unsqueeze(-1) - first) / (second - first).clamp(min=1e-12)).clamp(0.05, 1)
    high, low = heights.gather(-1, index - 1), heights.gather(-1, index)
    return (high + (low - high) * fraction).squeeze(-1)
