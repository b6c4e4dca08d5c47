"""Whether two solutions are connected by a path of low loss, and a search for one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.landscape.curve_paths import Curve, Path, straight_curve
from lightning_regimes.landscape.endpoint import Endpoint, Solution, endpoint
from lightning_regimes.landscape.normalization_statistics import (
    BatchNorm,
    probed_statistics,
    require_batch_norm,
    with_batch_statistics,
)
from lightning_regimes.landscape.path_losses import Floats, Metric, highest, losses_on_curve, mean_of_ends
from lightning_regimes.landscape.side_effects import Repetition
from lightning_regimes.module_state import ProbeError
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CurveOptimizer = Literal["adam", "sgd"]


@dataclass(frozen=True, eq=False)
class ConnectingCurve:
    r"""A curve between two solutions, and the loss along it.

    Attributes:
        value: mode connectivity :math:`mc = \tfrac12 (\ell(0) + \ell(1)) - \ell(t^*)`, in units of the loss or metric.
            Negative: a barrier. Near zero: the ends are connected. Positive: the path is better than its ends, which
            are under-trained.
        position: :math:`t^*`, where the curve differs most from the mean of its ends.
        positions: all t, from 0 to 1, shape (points,).
        losses: the losses there, or the values of the metric, shape (points,).
        curve: with the bends that were found.
        training_losses: of the batch at the random t of each step, shape (steps,); empty for a line.
    """

    value: float
    position: float
    positions: Floats
    losses: Floats
    curve: Curve
    training_losses: Floats

    @property
    def path(self) -> Path:
        """What kind of curve it is."""
        return self.curve.path

    @property
    def barrier(self) -> float:
        """The highest value on the curve minus the mean of its ends."""
        return float(self.losses[highest(self.losses)]) - mean_of_ends(self.losses)

    def figure(self) -> Figure:
        """Draw the values along the curve and the mean of its ends."""
        from lightning_regimes.landscape.path_figure import draw_path

        return draw_path(self.positions, self.losses, label="t")


def mode_connectivity(
    probe: LossProbe,
    other: Solution,
    path: Path = "linear",
    *,
    steps: int = 500,
    learning_rate: float = 0.01,
    optimizer: CurveOptimizer = "adam",
    num_bends: int = 1,
    points: int = 21,
    metric: Metric | None = None,
    training: LossProbe | None = None,
    batch_norm: BatchNorm = "recompute",
    seed: int = 0,
    progress: bool = False,
) -> ConnectingCurve:
    r"""Measure the mode connectivity of two solutions along a line, or along a curve that is trained to be low.

    .. math:: mc = \tfrac12 (\ell(0) + \ell(1)) - \ell(t^*), \qquad
        t^* = \arg\max_t \left|\ell(t) - \tfrac12 (\ell(0) + \ell(1))\right|

    The bends of the curve :math:`\phi` minimise :math:`E_{t \sim U[0, 1]}\, L(\phi(t))`: each step draws one t and one
    batch. The ends stay. The loss is the module's own, so that any architecture will do.

    Args:
        probe: stands at t = 0.
        other: t = 1, as a flat vector in the order of the probe's parameters, a state dict, or a module.
        path: ``"linear"``; ``"bezier"``, of degree ``num_bends + 1``; or ``"polygonal"``, of as many pieces.
        steps: of the optimizer.
        learning_rate: of the bends; it falls linearly to zero in the second half of the steps.
        optimizer: ``"adam"``, or ``"sgd"`` with momentum 0.9.
        num_bends: trained points between the ends.
        points: number of t at which the curve is measured, equally spaced, at least 3.
        metric: ``metric(module, batch)``, a number that is measured in place of the loss, such as the error in
            percent; the curve is trained on the loss all the same.
        training: probe of the same module whose batches the curve is trained on, and whose batches give recomputed
            statistics, when ``probe`` holds others, of the test set say. Only its loss is used, not its point.
        batch_norm: as in :func:`~lightning_regimes.landscape.loss_barrier.loss_barrier`; with ``"recompute"`` the
            curve is trained with the statistics of each batch.
        seed: of t and of the order of the batches.
        progress: show a bar.

    Raises:
        TypeError: ``other`` is none of the three.
        ValueError: names or shapes differ, or an argument is out of its range.
        ProbeError: the training of the curve diverges, or the loss or the metric has state of its own.

    References:
        Garipov et al., Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs, arXiv:1802.10026, equations 1
        to 3; Yang et al., Taxonomizing local versus global structure in neural network loss landscapes,
        arXiv:2107.11228, equation 2.
    """
    source = training or probe
    _check(probe, source, steps, learning_rate, optimizer, batch_norm)
    far = endpoint(probe, other)
    curve = straight_curve(probe.point(), far.vector, path, num_bends=num_bends)
    training_losses = np.empty(0)
    if path != "linear":
        curve, training_losses = _trained(
            source,
            curve,
            far,
            steps=steps,
            learning_rate=learning_rate,
            optimizer=optimizer,
            batch_norm=batch_norm,
            seed=seed,
            progress=progress,
        )
    positions, losses = losses_on_curve(
        probe, curve, far, points=points, metric=metric, batch_norm=batch_norm, statistics_from=source
    )
    deviations = np.abs(losses - mean_of_ends(losses))
    index = highest(deviations)
    return ConnectingCurve(
        value=float(mean_of_ends(losses) - losses[index]),
        position=float(positions[index]),
        positions=positions,
        losses=losses,
        curve=curve,
        training_losses=training_losses,
    )


def _check(
    probe: LossProbe, source: LossProbe, steps: int, learning_rate: float, optimizer: str, batch_norm: str
) -> None:
    require_batch_norm(batch_norm)
    if steps < 1:
        raise ValueError(f"`steps` is at least 1, got {steps}")
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"`learning_rate` is positive and finite, got {learning_rate}")
    if optimizer not in get_args(CurveOptimizer):
        raise ValueError(f"`optimizer` is one of {', '.join(get_args(CurveOptimizer))}, got {optimizer!r}")
    shapes = [{name: leaf.shape for name, leaf in each.parameters.items()} for each in (probe, source)]
    if shapes[0] != shapes[1]:
        raise ValueError("`training` is a probe of the same parameters as `probe`, but names or shapes differ")


def _trained(
    probe: LossProbe,
    curve: Curve,
    far: Endpoint,
    *,
    steps: int,
    learning_rate: float,
    optimizer: CurveOptimizer,
    batch_norm: BatchNorm,
    seed: int,
    progress: bool,
) -> tuple[Curve, Floats]:
    near = probed_statistics(probe)
    normalized = with_batch_statistics(probe) if near and batch_norm == "recompute" else probe
    bends = curve.bends.clone().requires_grad_()
    start, end = curve.points[:1], curve.points[-1:]
    descent = (
        torch.optim.Adam([bends], lr=learning_rate)
        if optimizer == "adam"
        else torch.optim.SGD([bends], lr=learning_rate, momentum=0.9)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(descent, lambda step: min(1.0, 2 * (1 - step / steps)))
    # Processes share t, and each draws from its own batches; their sum has the mean of the whole gradient.
    generator, order = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    losses = np.empty(steps)
    with normalized.isolated():
        unbent = Repetition(normalized, lambda: _loss_and_gradient(normalized, curve.point(0.0), 0)[0])
        unbent.require()
        for step in _counted(steps, progress):
            t = float(torch.rand((), generator=generator, dtype=torch.float64))
            index = int(torch.randint(normalized.num_batches, (), generator=order))
            here = Curve(curve.path, torch.cat([start, bends.detach(), end]))
            statistics: dict[str, Tensor] = {}
            if near and batch_norm == "interpolate" and far.statistics is not None:
                statistics = {name: torch.lerp(near[name], last, t) for name, last in far.statistics.items()}
            with normalized.replaced(statistics):
                total, gradient = _loss_and_gradient(normalized, here.point(t), index)
            loss = float(total)
            if not (math.isfinite(loss) and bool(torch.isfinite(gradient).all())):
                raise ProbeError(
                    f"the loss on the curve is not finite in step {step} at t = {t:.3g}; lower `learning_rate`"
                )
            coefficients = gradient.new_tensor(here.coefficients(t)[1:-1])
            bends.grad = torch.outer(coefficients, gradient)
            descent.step()
            schedule.step()
            losses[step] = loss
        unbent.require()
    return Curve(curve.path, torch.cat([start, bends.detach(), end])), losses


def _loss_and_gradient(probe: LossProbe, point: Tensor, index: int) -> tuple[Tensor, Tensor]:
    """Return an estimate of the whole loss and its gradient from one batch of each process."""
    leaves = [piece.detach().clone().requires_grad_() for piece in probe.unflatten(point)]

    def own() -> Tensor:
        loss = probe.batch_loss(index)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        together = torch.cat([loss.detach().reshape(1).to(probe.dtype), probe.flatten(gradients)])
        return together * (probe.num_batches * probe.weights[index])

    with probe.moved(leaves):
        total = probe.processes.sum(own, shape=(probe.num_parameters + 1,), dtype=probe.dtype, device=probe.device)
    return total[0], total[1:]


def _counted(steps: int, progress: bool) -> Iterable[int]:
    if not progress:
        return range(steps)
    from rich.progress import track

    return track(range(steps), description="training the curve")
