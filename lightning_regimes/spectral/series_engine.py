"""A network that reads a probe and writes a polynomial for a function of an operator."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_regimes.spectral.chebyshev_series import ChebyshevSeries
from lightning_regimes.spectral.corrections import corrections
from lightning_regimes.spectral.matrix_functions import MatrixFunction
from lightning_regimes.spectral.probe_features import num_features, probe_features
from lightning_regimes.spectral.relative_fit import relative_fit
from lightning_regimes.spectral.spectral_probe import SpectralProbe

_LOWEST = 1e-8
NUM_ROUNDS = 5
"""Of reweighting: what the fit gains beyond is lost again in the interval that the probe does not know."""
# A distance of this share of the lowest Ritz value leaves half of the doubt.
_HALF_KNOWN = 0.5


class SeriesEngine(nn.Module):
    r"""Corrections of the polynomial of least relative error, learned in the manner of AutoSpec.

    Its interval reaches from where the spectrum may begin, by the lowest Ritz value :math:`\theta_1`, its residual ρ
    and its distance to the next one,

    .. math:: a = \max\Bigl(\theta_1 - \min\bigl(\rho, \tfrac{\rho^2}{\theta_2 - \theta_1}\bigr), \;
        \tfrac{\theta_1}{4}\Bigr)

    to the upper bound of the probe. A network changes its lower end by a factor :math:`e^{sc}`, and the coefficients
    by a part of the last one, :math:`c_k + |c_d| \tanh s u_k`, where s goes to 0 with the distance in question. Before
    training the engine is :func:`relative_fit` on that interval. A probe of twice as many steps as the degree costs
    as much as two applications, and is worth it.

    Args:
        function: of the eigenvalues.
        degree: d.
        probe_size: Ritz values of the probes; one that has fewer is filled up.
        width: of the two hidden layers.
        seed: of the initial weights.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        function: MatrixFunction,
        degree: int = 32,
        *,
        probe_size: int = 32,
        width: int = 96,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if degree < 1 or probe_size < 1 or width < 1:
            raise ValueError(
                f"`degree`, `probe_size` and `width` are at least 1, got {degree}, {probe_size} and {width}"
            )
        self.function = function
        self.degree = degree
        self.probe_size = probe_size
        self.network = corrections(num_features(probe_size), width, degree + 2, seed)

    def forward(self, probe: SpectralProbe) -> ChebyshevSeries:
        """Return the series for a probe, or for each of a batch.

        Args:
            probe: of positive definite operators.

        Raises:
            ValueError: the probe has too many values.
        """
        parameter, device = next(self.network.parameters()), probe.ritz.device
        probe = probe.to(parameter.device, parameter.dtype)
        scale = probe.ritz[..., -1]
        relative = probe.scaled(1 / scale)
        cut, changes = self.network(probe_features(relative, self.probe_size)).split([1, self.degree + 1], dim=-1)
        doubt = _doubt(relative)
        upper, lower = relative.upper, spectrum_start(relative) * (doubt * cut.squeeze(-1)).exp()
        lower = torch.minimum(lower, 0.9 * upper).clamp(min=_LOWEST)
        series = relative_fit(self.function, lower, upper, self.degree, num_rounds=NUM_ROUNDS)
        coefficients = (
            series.coefficients + series.coefficients[..., -1:].abs() * (doubt.unsqueeze(-1) * changes).tanh()
        )
        along = scale**self.function.degree
        return ChebyshevSeries(coefficients * along.unsqueeze(-1), lower * scale, upper * scale).to(device)


def spectrum_start(probe: SpectralProbe) -> Tensor:
    """Return where the spectrum may begin, as :class:`SeriesEngine` has it, shape (...)."""
    lowest = probe.ritz[..., 0]
    return torch.maximum(lowest - _distance(probe), lowest / 4)


def _distance(probe: SpectralProbe) -> Tensor:
    """Return how far the lowest eigenvalue may be from the lowest Ritz value, as far as one can tell, shape (...)."""
    lowest, residual = probe.ritz[..., 0], probe.residuals[..., 0]
    if probe.size == 1:
        return residual
    gap = (probe.ritz[..., 1] - lowest).clamp(min=1e-12 * probe.upper)
    return torch.minimum(residual, residual.square() / gap)


def _doubt(probe: SpectralProbe) -> Tensor:
    """Return how little is known of where the spectrum begins, from 0 to 1, shape (...)."""
    distance = _distance(probe)
    return distance / (distance + _HALF_KNOWN * probe.ritz[..., 0].clamp(min=_LOWEST))
