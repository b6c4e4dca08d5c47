"""Learning polynomials for functions of matrices."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lightning_regimes.modules.spectral_task import SpectralTask
from lightning_regimes.spectral.chebyshev_series import ChebyshevSeries
from lightning_regimes.spectral.function_loss import relative_error_loss
from lightning_regimes.spectral.matrix_functions import MatrixFunction
from lightning_regimes.spectral.operator_forms import TensorOperator
from lightning_regimes.spectral.relative_fit import relative_fit
from lightning_regimes.spectral.series_engine import NUM_ROUNDS, SeriesEngine
from lightning_regimes.spectral.spectral_probe import lanczos_probe
from lightning_regimes.spectral.spectrum_batch import SpectrumBatch

_EXPONENTS = (4.0, 8.0, 16.0, 32.0)


class FunctionTask(SpectralTask):
    """Coefficients of a :class:`ChebyshevSeries` that is close to a function on the spectrum.

    On a real operator, of which it makes the whole spectrum, it measures ``error``, the largest relative error of the
    function, and ``ratio_to_base``, that over the error of the classical polynomial.

    Args:
        function: of the eigenvalues.
        degree: d.
        probe_size: Ritz values of a probe.
        width: of the engine.
        seed: of the engine's weights.
    """

    def __init__(self, function: MatrixFunction, degree: int, probe_size: int, width: int, *, seed: int) -> None:
        self.function = function
        self.probe_size = probe_size
        self.engine: SeriesEngine = SeriesEngine(function, degree, probe_size=probe_size, width=width, seed=seed)
        self.base = copy.deepcopy(self.engine).requires_grad_(False)

    def loss(self, engine: nn.Module, batch: SpectrumBatch, generator: torch.Generator | None = None) -> Tensor:
        """Return how far the largest relative error is above a tolerance, see :func:`relative_error_loss`."""
        series: ChebyshevSeries = engine(batch.probe)
        truth = self._values(batch.eigenvalues, batch.ritz[..., -1:])
        if generator is None:
            return relative_error_loss(series, truth, batch.eigenvalues, exponent=_EXPONENTS[-1])
        exponent = _EXPONENTS[int(torch.randint(len(_EXPONENTS), (), generator=generator))]
        best = self._best_error(batch.eigenvalues)
        return relative_error_loss(series, truth, batch.eigenvalues, exponent=exponent, best=best)

    def measure(self, operator: TensorOperator, vector: Tensor, seed: int) -> dict[str, float]:
        """Return the largest relative error, and what it is of that of the base."""
        probe = lanczos_probe(operator, num_steps=self.probe_size, seed=seed)
        eigenvalues = torch.linalg.eigvalsh(operator @ torch.eye(operator.shape[0], dtype=operator.dtype))
        truth = self._values(eigenvalues, probe.ritz[-1:])
        errors = []
        for engine in (self.engine, self.base):
            series: ChebyshevSeries = engine(probe)
            errors.append(float((series.evaluate(eigenvalues) / truth - 1).detach().abs().max()))
        return {"error": errors[0], "ratio_to_base": errors[0] / errors[1]}

    @torch.no_grad()
    def _best_error(self, eigenvalues: Tensor) -> Tensor:
        """Return the largest error of the classical polynomial for the interval itself, which no probe knows."""
        relative = eigenvalues / eigenvalues[..., -1:]
        # A little more than the interval, since one of a single point has no polynomial.
        lower, upper = 0.999 * relative[..., 0], 1.001 * relative[..., -1]
        series = relative_fit(self.function, lower, upper, self.engine.degree, num_rounds=NUM_ROUNDS)
        return (series.evaluate(relative) / self.function(relative) - 1).abs().amax(-1)

    def _values(self, eigenvalues: Tensor, scale: Tensor) -> Tensor:
        return self.function(eigenvalues / scale) * scale**self.function.degree
