"""Learning filters for the largest eigenvalues."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from lightning_regimes.modules.spectral_task import SpectralTask
from lightning_regimes.spectral.chebyshev_series import ChebyshevSeries
from lightning_regimes.spectral.filter_engine import FilterEngine, quantile
from lightning_regimes.spectral.filter_loss import log_contraction, separation_loss
from lightning_regimes.spectral.operator_forms import TensorOperator
from lightning_regimes.spectral.spectral_probe import lanczos_probe
from lightning_regimes.spectral.spectrum_batch import SpectrumBatch
from lightning_regimes.spectral.step_series import step_filter

_MEASURED = 8


class FilterTask(SpectralTask):
    """Coefficients of a :class:`ChebyshevSeries` that lets the largest eigenvalues of an operator pass.

    In training the number k of wanted eigenvalues is drawn, and a quarter more vectors, and two, are kept. On a real
    operator, of which it makes the whole spectrum, it measures for k = 8 ``contraction``, what the error of the
    subspace is multiplied by in an iteration, and the products for the same error over those of the classical filter,
    ``products_to_base``, and over those of a Jackson-damped step of the same degree, ``products_to_jackson``.

    Args:
        degree: d.
        probe_size: Ritz values of a probe.
        width: of the engine.
        seed: of the engine's weights.
    """

    def __init__(self, degree: int, probe_size: int, width: int, *, seed: int) -> None:
        self.degree = degree
        self.probe_size = probe_size
        self.engine = FilterEngine(degree, probe_size=probe_size, width=width, seed=seed)
        self.base = copy.deepcopy(self.engine).requires_grad_(False)

    def loss(self, engine: nn.Module, batch: SpectrumBatch, generator: torch.Generator | None = None) -> Tensor:
        """Return how far the contraction is from zero, see :func:`separation_loss`."""
        size, count = batch.eigenvalues.shape[-1], len(batch.upper)
        if generator is None:
            wanted = torch.full((count,), min(_MEASURED, size // 4), device=batch.upper.device)
        else:
            wanted = torch.randint(2, max(3, size // 12), (count,), generator=generator).to(batch.upper.device)
        kept = num_kept(wanted)
        series: ChebyshevSeries = engine(batch.probe, kept / size)
        return separation_loss(series, batch.eigenvalues, wanted, kept)

    def measure(self, operator: TensorOperator, vector: Tensor, seed: int) -> dict[str, float]:
        """Return the contraction, and products relative to the base and to Jackson."""
        size = operator.shape[0]
        probe = lanczos_probe(operator, num_steps=self.probe_size, seed=seed)
        eigenvalues = torch.linalg.eigvalsh(operator @ torch.eye(size, dtype=operator.dtype))
        wanted = torch.tensor([min(_MEASURED, size // 4)])
        kept = num_kept(wanted)
        share = kept[0] / size
        filters = [engine(probe, share) for engine in (self.engine, self.base)]
        height = float(quantile(probe, share.to(probe.ritz)))
        lower = float(probe.ritz[0] - probe.residuals[0])
        upper = float(probe.upper)
        filters.append(step_filter((height, upper), lower=min(lower, 0.0), upper=upper, degree=self.degree))
        rates = []
        for found in filters:
            series = ChebyshevSeries(found.coefficients.detach()[None], found.lower[None], found.upper[None])
            rates.append(float(log_contraction(series, eigenvalues[None], wanted, kept)))
        contraction = math.exp(rates[0])
        return {
            "contraction": contraction,
            "products_to_base": _products(rates[0], rates[1]),
            "products_to_jackson": _products(rates[0], rates[2]),
        }


def num_kept(wanted: Tensor) -> Tensor:
    """Return how many vectors a subspace keeps for so many wanted ones."""
    return wanted + wanted // 4 + 2


def _products(rate: float, other: float) -> float:
    """Return the products of a filter relative to another's, from the logarithms of their contractions."""
    if rate >= 0:
        return math.inf
    return min(other, 0.0) / rate
