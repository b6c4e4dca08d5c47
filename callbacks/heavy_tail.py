"""How heavy the tails of the weights' spectra are, layer by layer, and those of the momentum."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.weight_matrices import decomposition_cost, momenta_of, weight_matrices
from lightning_regimes.metrics import power_law_tail, singular_values
from lightning_regimes.probe import LossProbe
from lightning_regimes.recording import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class _Spectrum:
    """What is told of one matrix; no exponent, that is NaN, where the rank is too low for a tail."""

    alpha: float
    distance: float
    stable_rank: float
    spectral_norm: float


_NOTHING = _Spectrum(math.nan, math.nan, math.nan, math.nan)


class HeavyTail(Diagnostic):
    r"""Records the exponent α of the upper half of each weight's eigenvalue spectrum, and its stable rank.

    With the eigenvalues λ of :math:`W W^T` for a weight W, (out, everything else), α is that of
    :math:`\rho(\lambda) \propto \lambda^{-\alpha}` by Hill's estimator
    (:func:`~lightning_regimes.metrics.power_law_tail`), the stable rank is :math:`\|W\|_F^2 / \|W\|_2^2`. In trained
    networks α falls as correlations build up; the same is told of the running mean of the gradient where the optimizer
    keeps one (``momentum_buffer`` or ``exp_avg``). A matrix of a rank below 3, such as zeros, has no tail: NaN, and a
    warning that names it.

    Args:
        matrices: names of parameters or glob patterns; by default all real ones with two dimensions or more.
        min_size: rows and columns that a matrix has at least; a tail of few values says nothing.
        momentum: whether to look at the momentum, too, which takes as many decompositions again.
        at_end: measure when training ends.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.

    Raises:
        ValueError: an option is out of range.

    References:
        C. H. Martin, T. Peng, M. W. Mahoney, Predicting trends in the quality of state-of-the-art neural networks
        without access to training or testing data, arXiv:2002.06716; HTMuon, arXiv:2603.10067.
    """

    name: ClassVar[str] = "heavy_tail"

    def __init__(
        self,
        matrices: str | Sequence[str] | None = None,
        *,
        min_size: int = 8,
        momentum: bool = True,
        at_end: bool = True,
        **options: Any,
    ) -> None:
        if min_size < 3:
            raise ValueError(f"`min_size` is at least 3, which a tail of two values takes, got {min_size}")
        self.matrices = matrices
        self.min_size = min_size
        self.momentum = momentum
        super().__init__(at_end=at_end, **options)

    def reset(self) -> None:
        """Forget everything about a training."""
        super().reset()
        self._momenta: dict[str, Tensor] = {}
        self._units = 1

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Require a matrix."""
        parameters = {name: parameter for name, parameter in pl_module.named_parameters() if parameter.requires_grad}
        complex_ones = [name for name, parameter in parameters.items() if parameter.is_complex()]
        if not weight_matrices(parameters, self.matrices, smallest=self.min_size, complex_leaves=complex_ones):
            raise ValueError(
                f"`matrices` are real parameters of at least `min_size`={self.min_size} rows and columns, got none"
                + ("" if self.matrices is None else f" that matches {self.matrices!r}")
            )

    def probe(self, pl_module: L.LightningModule) -> LossProbe:
        """Return a probe, and look up the momenta by the parameters that the optimizers know."""
        probe = super().probe(pl_module)
        named = dict(pl_module.named_parameters())
        optimizers = self.optimizers(pl_module.trainer) if self.momentum else []
        self._momenta = momenta_of(optimizers, {name: named[name] for name in self._names(probe)})
        return probe

    def expected_units(self) -> int:
        """Decompositions of the largest matrix."""
        return self._units

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Return the time of decomposing the largest matrix, and see how many of them all others are worth."""
        leaves = [probe.parameters[name] for name in self._names(probe)] + list(self._momenta.values())
        costs = [decomposition_cost(leaf) for leaf in leaves]
        self._units = math.ceil(sum(costs) / max(costs))
        singular_values(torch.eye(4, dtype=probe.dtype, device=probe.device))
        start = time.perf_counter()
        float(singular_values(leaves[costs.index(max(costs))])[:1].sum())
        self._momenta = {}
        return time.perf_counter() - start

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Decompose all matrices and their momenta."""
        names = self._names(probe)
        momenta, self._momenta = self._momenta, {}
        weights = [self._spectrum(name, probe.parameters[name]) for name in names]
        gradients = [
            self._spectrum(f"momentum of {name}", momenta[name]) if name in momenta else _NOTHING for name in names
        ]
        alphas = np.array([spectrum.alpha for spectrum in weights])
        momentum_alphas = np.array([spectrum.alpha for spectrum in gradients])
        finite = alphas[np.isfinite(alphas)]
        scalars = {
            "heavy_tail/alpha_mean": _mean(alphas),
            "heavy_tail/alpha_min": float(finite.min()) if len(finite) else math.nan,
            "heavy_tail/alpha_max": float(finite.max()) if len(finite) else math.nan,
            "heavy_tail/stable_rank_mean": _mean([spectrum.stable_rank for spectrum in weights]),
            "heavy_tail/spectral_norm_max": max(spectrum.spectral_norm for spectrum in weights),
            "heavy_tail/num_decompositions": len(names) + len(momenta),
        }
        arrays = {
            "heavy_tail/alphas": alphas,
            "heavy_tail/distances": np.array([spectrum.distance for spectrum in weights]),
            "heavy_tail/stable_ranks": np.array([spectrum.stable_rank for spectrum in weights]),
            "heavy_tail/spectral_norms": np.array([spectrum.spectral_norm for spectrum in weights]),
        }
        if momenta:
            scalars["heavy_tail/momentum_alpha_mean"] = _mean(momentum_alphas)
            scalars["heavy_tail/momentum_stable_rank_mean"] = _mean([each.stable_rank for each in gradients])
            arrays["heavy_tail/momentum_alphas"] = momentum_alphas
        columns = ("weight", "rows", "columns", "α", "distance", "stable rank", "spectral norm", "α of the momentum")
        rows = [
            (
                name,
                probe.parameters[name].shape[0],
                probe.parameters[name].shape[1:].numel(),
                own.alpha,
                own.distance,
                own.stable_rank,
                own.spectral_norm,
                other.alpha if name in momenta else None,
            )
            for name, own, other in zip(names, weights, gradients, strict=True)
        ]
        return Measurement(
            scalars=scalars,
            arrays=arrays,
            context={"matrices": names, "momentum": sorted(momenta)},
            figures={"heavy_tail/exponents": lambda: draw_exponents(names, alphas, momentum_alphas)},
            tables={"heavy_tail/layers": Table(columns, rows)},
        )

    def _names(self, probe: LossProbe) -> list[str]:
        return weight_matrices(
            probe.parameters, self.matrices, smallest=self.min_size, complex_leaves=probe.complex_parameters
        )

    def _spectrum(self, name: str, matrix: Tensor) -> _Spectrum:
        values = singular_values(matrix)
        norm = float(values[0]) if len(values) else 0.0
        stable_rank = float((values / norm).square().sum()) if len(values) else math.nan
        if len(values) < 3:
            self.warn(f"HeavyTail finds no tail in {name}, which has rank {len(values)}", once=name)
            return _Spectrum(math.nan, math.nan, stable_rank, norm)
        tail = power_law_tail(values.square())
        return _Spectrum(tail.alpha, tail.distance, stable_rank, norm)


def draw_exponents(names: Sequence[str], alphas: np.ndarray, momentum_alphas: np.ndarray) -> Figure:
    """Draw the exponent of each matrix, and that of its momentum where there is one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.2 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    positions = np.arange(len(names))
    axes.barh(positions, np.where(np.isfinite(alphas), alphas, 0), color="#4c72b0", label="weights")
    if np.isfinite(momentum_alphas).any():
        axes.plot(momentum_alphas, positions, "o", color="#dd8452", label="momentum")
        axes.legend(fontsize="small")
    axes.set_yticks(positions, labels=names)
    axes.invert_yaxis()
    axes.set_xlabel("exponent α of the tail; lower is heavier")
    return figure


def _mean(values: Sequence[float] | np.ndarray) -> float:
    found = np.asarray(values)[np.isfinite(values)]
    return float(found.mean()) if len(found) else math.nan
