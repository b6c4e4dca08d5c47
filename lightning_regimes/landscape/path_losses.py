"""The loss, or another number, at equally spaced points of a curve in parameter space."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_regimes.landscape.curve_paths import Curve
from lightning_regimes.landscape.endpoint import Endpoint
from lightning_regimes.landscape.normalization_statistics import (
    BatchNorm,
    probed_statistics,
    recomputed_statistics,
    require_batch_norm,
)
from lightning_regimes.landscape.side_effects import Repetition
from lightning_regimes.probe import LossProbe

Floats = NDArray[np.float64]
#: ``metric(module, batch)``, a number that replaces the loss.
Metric = Callable[[Any, Any], Any]


def losses_on_curve(
    probe: LossProbe,
    curve: Curve,
    far: Endpoint,
    *,
    points: int,
    metric: Metric | None = None,
    batch_norm: BatchNorm = "recompute",
    statistics_from: LossProbe | None = None,
) -> tuple[Floats, Floats]:
    """Return equally spaced positions in [0, 1], and the loss or the metric there; NaN is kept, with a warning.

    Args:
        probe: of the loss.
        curve: from the probe's point to the other one.
        far: the other one.
        points: number of positions, at least 3.
        metric: see :func:`~lightning_regimes.landscape.loss_barrier.loss_barrier`.
        batch_norm: see :func:`~lightning_regimes.landscape.loss_barrier.loss_barrier`.
        statistics_from: the probe whose batches give the recomputed statistics; default: the same.

    Raises:
        ValueError: an argument is out of its range, or there are no statistics to interpolate.
        ProbeError: the loss or the metric has state of its own.
    """
    require_batch_norm(batch_norm)
    if points < 3:
        raise ValueError(f"`points` is at least 3, the ends and one between them, got {points}")
    source = statistics_from or probe
    near = probed_statistics(probe)
    if near and batch_norm == "interpolate" and far.statistics is None:
        raise ValueError(
            "`batch_norm` is 'interpolate', but `other` brings no running statistics; pass it as a module or a whole "
            "state dict, or use 'recompute'"
        )
    measured = probe if metric is None else probe.with_loss(_as_loss(metric, probe))
    positions = np.linspace(0.0, 1.0, points)

    def loss_at(t: float) -> Tensor:
        leaves = probe.unflatten(curve.point(t))
        with measured.moved(leaves):
            statistics: dict[str, Tensor] = {}
            if near and batch_norm == "recompute":
                with source.moved(leaves):
                    statistics = recomputed_statistics(source)
            elif near and batch_norm == "interpolate" and far.statistics is not None:
                statistics = {name: torch.lerp(near[name], end, t) for name, end in far.statistics.items()}
            with measured.replaced(statistics):
                return measured.loss()

    with measured.isolated():
        start = Repetition(measured, lambda: loss_at(0.0))
        start.require()
        losses = np.array([start.values.item(), *(loss_at(t).item() for t in positions[1:].tolist())])
        start.require()
    if np.isnan(losses).any():
        where = ", ".join(f"{t:.3g}" for t in positions[np.isnan(losses)][:5])
        warnings.warn(f"the loss is NaN on the path at {where}: these positions are left out", stacklevel=3)
    return positions, losses


def mean_of_ends(losses: Floats) -> float:
    """Return half the sum of the first and the last value."""
    return 0.5 * float(losses[0] + losses[-1])


def highest(losses: Floats) -> int:
    """Return the index of the highest value; NaN counts only where all are."""
    return 0 if np.isnan(losses).all() else int(np.nanargmax(losses))


def _as_loss(metric: Metric, probe: LossProbe) -> Callable[[Any, Any], Tensor]:
    if not callable(metric):
        raise TypeError(f"`metric` is a callable (module, batch) -> number, got {type(metric).__name__}")

    def loss(module: Any, batch: Any) -> Tensor:
        value = metric(module, batch)
        return (
            value
            if isinstance(value, Tensor) and value.is_floating_point()
            else torch.as_tensor(value, dtype=probe.dtype, device=probe.device)
        )

    return loss
