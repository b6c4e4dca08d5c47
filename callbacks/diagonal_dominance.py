"""How near the gradients of weight matrices are to rows at right angles, where RMNP and Muon do the same."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.weight_matrices import decomposition_cost, momenta_of, weight_matrices
from lightning_regimes.optim import row_dominance
from lightning_regimes.probe import LossProbe
from lightning_regimes.recording import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class DiagonalDominance(Diagnostic):
    r"""Records how far the Gram matrix of the rows of each weight's momentum is diagonal.

    With :math:`P = V V^T`, the ratios :math:`r_i = P_{ii} / \operatorname{mean}_{j \ne i} |P_{ij}|` of each matrix,
    their minimum, mean and maximum, each as a mean over the matrices; and the cosine between the row-normalized V and
    its polar factor, that is, between the updates of RMNP and Muon (:func:`~lightning_regimes.optim.row_dominance`).

    V is the running mean of the gradient that the optimizer keeps (``momentum_buffer`` or ``exp_avg``), without
    Nesterov's look ahead; for a parameter without one it is the gradient of the loss on the probe. The context says
    ``carrier``: ``"momentum"``, ``"gradient"``, or ``"mixed"``, and the table which matrix has which.

    Args:
        matrices: names of parameters or glob patterns; by default all real ones with two dimensions or more, and with
            two rows and columns.
        max_rows: rows of a matrix whose ratio is taken, evenly spaced, so that large embeddings stay affordable.
        at_end: measure when training ends.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.

    Raises:
        ValueError: an option is out of range.

    References:
        RMNP: row-momentum normalized preconditioning, arXiv:2603.20527.
    """

    name: ClassVar[str] = "dominance"

    def __init__(
        self,
        matrices: str | Sequence[str] | None = None,
        *,
        max_rows: int = 1024,
        at_end: bool = True,
        **options: Any,
    ) -> None:
        if max_rows < 1:
            raise ValueError(f"`max_rows` is at least 1, got {max_rows}")
        self.matrices = matrices
        self.max_rows = max_rows
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
        if not weight_matrices(parameters, self.matrices, smallest=2, complex_leaves=complex_ones):
            raise ValueError(
                "`matrices` are real parameters of two rows and columns or more, got none"
                + ("" if self.matrices is None else f" that matches {self.matrices!r}")
            )

    def probe(self, pl_module: L.LightningModule) -> LossProbe:
        """Return a probe, and look up the momenta by the parameters that the optimizers know."""
        probe = super().probe(pl_module)
        named = dict(pl_module.named_parameters())
        wanted = {name: named[name] for name in self._names(probe)}
        self._momenta = momenta_of(self.optimizers(pl_module.trainer), wanted)
        return probe

    def expected_units(self) -> int:
        """Decompositions of the largest matrix, the gradient counted as as many as it takes the time of."""
        return self._units

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Return the time of the largest matrix, and see how many of them all others and the gradient are worth."""
        names, momenta = self._names(probe), self._momenta
        self._momenta = {}
        costs = {name: decomposition_cost(probe.parameters[name]) for name in names}
        largest = max(names, key=costs.__getitem__)
        row_dominance(torch.eye(4, dtype=probe.dtype, device=probe.device))
        start = time.perf_counter()
        row_dominance(probe.parameters[largest], max_rows=self.max_rows)
        unit = time.perf_counter() - start
        self._units = math.ceil(sum(costs.values()) / costs[largest])
        if len(momenta) < len(names):
            start = time.perf_counter()
            probe.gradient()
            self._units += math.ceil((time.perf_counter() - start) / unit)
        return unit

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Measure all matrices."""
        names = self._names(probe)
        momenta, self._momenta = self._momenta, {}
        gradients: dict[str, Tensor] = {}
        if len(momenta) < len(names):
            gradients = dict(zip(probe.parameters, probe.unflatten(probe.gradient()), strict=True))
        found = [
            row_dominance(momenta[name] if name in momenta else gradients[name], max_rows=self.max_rows)
            for name in names
        ]
        carriers = ["momentum" if name in momenta else "gradient" for name in names]
        arrays = {
            "dominance/minima": np.array([each.minimum for each in found]),
            "dominance/means": np.array([each.mean for each in found]),
            "dominance/maxima": np.array([each.maximum for each in found]),
            "dominance/cosines": np.array([each.cosine for each in found]),
        }
        undefined = [name for name, each in zip(names, found, strict=True) if not len(each.ratios)]
        if undefined:
            self.warn(f"DiagonalDominance has no ratios for {', '.join(undefined)}, where all is zero", once="zero")
        columns = ("weight", "rows", "columns", "of its", "r_min", "r_avg", "r_max", "cosine")
        rows = [
            (
                name,
                probe.parameters[name].shape[0],
                probe.parameters[name].shape[1:].numel(),
                carrier,
                each.minimum,
                each.mean,
                each.maximum,
                each.cosine,
            )
            for name, carrier, each in zip(names, carriers, found, strict=True)
        ]
        return Measurement(
            scalars={
                "dominance/r_min": _mean(arrays["dominance/minima"]),
                "dominance/r_avg": _mean(arrays["dominance/means"]),
                "dominance/r_max": _mean(arrays["dominance/maxima"]),
                "dominance/cosine": _mean(arrays["dominance/cosines"]),
                "dominance/num_decompositions": len(names),
                "dominance/num_evaluations": probe.num_batches if gradients else 0,
            },
            arrays=arrays,
            context={
                "matrices": names,
                "carrier": carriers[0] if len(set(carriers)) == 1 else "mixed",
                "loss_source": probe.loss_source,
            },
            figures={"dominance/ratios": lambda: draw_ratios(names, arrays)},
            tables={"dominance/layers": Table(columns, rows)},
        )

    def _names(self, probe: LossProbe) -> list[str]:
        return weight_matrices(probe.parameters, self.matrices, smallest=2, complex_leaves=probe.complex_parameters)


def draw_ratios(names: Sequence[str], arrays: dict[str, np.ndarray]) -> Figure:
    """Draw the range of the ratios of each matrix and their mean, beside the cosine of the two updates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 1.4 + 0.3 * len(names)), layout="constrained")
    axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    positions = np.arange(len(names))
    low, mean, high = (arrays[f"dominance/{kind}"] for kind in ("minima", "means", "maxima"))
    drawn = np.isfinite(low) & np.isfinite(high) & (low > 0)
    axes.hlines(positions[drawn], low[drawn], high[drawn], color="#4c72b0", linewidth=3, alpha=0.4)
    axes.plot(mean[drawn], positions[drawn], "o", color="#4c72b0", label="mean")
    axes.axvline(1, color="0.4", linestyle="--")
    axes.set_xscale("log")
    axes.set_yticks(positions, labels=names)
    axes.invert_yaxis()
    axes.set_xlabel("diagonal over mean beside it, r")
    beside.barh(positions, np.nan_to_num(arrays["dominance/cosines"]), color="#dd8452")
    beside.set(xlabel="cosine of RMNP and Muon", xlim=(0, 1))
    return figure


def _mean(values: np.ndarray) -> float:
    found = values[np.isfinite(values)]
    return float(found.mean()) if len(found) else math.nan
