"""How high the loss rises on the line between two solutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightning_regimes.landscape.curve_paths import straight_curve
from lightning_regimes.landscape.endpoint import Solution, endpoint
from lightning_regimes.landscape.normalization_statistics import BatchNorm
from lightning_regimes.landscape.path_losses import Floats, Metric, highest, losses_on_curve, mean_of_ends
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class LossBarrier:
    r"""The loss on the line :math:`(1 - \alpha)\, \theta_a + \alpha\, \theta_b`.

    Attributes:
        value: the barrier :math:`B = \max_\alpha L - \tfrac12 (L_a + L_b)`, in units of the loss.
        position: :math:`\alpha` of the maximum.
        positions: all :math:`\alpha`, from 0 to 1, shape (points,).
        losses: the losses there, or the values of the metric, as they came out; shape (points,).
    """

    value: float
    position: float
    positions: Floats
    losses: Floats

    @property
    def start_loss(self) -> float:
        """The loss at the probe's own point."""
        return float(self.losses[0])

    @property
    def end_loss(self) -> float:
        """The loss at the other solution."""
        return float(self.losses[-1])

    def figure(self) -> Figure:
        """Draw the loss along the line and the mean of its ends."""
        from lightning_regimes.landscape.path_figure import draw_path

        return draw_path(self.positions, self.losses, label="α")


def loss_barrier(
    probe: LossProbe,
    other: Solution,
    *,
    points: int = 21,
    metric: Metric | None = None,
    batch_norm: BatchNorm = "recompute",
) -> LossBarrier:
    r"""Measure the loss barrier between the point of a probe and another solution.

    .. math:: B = \max_{\alpha \in [0, 1]} L((1 - \alpha)\, \theta_a + \alpha\, \theta_b) - \tfrac12 (L_a + L_b)

    Two networks without a barrier lie in one linearly connected basin. Networks from different starts often come near
    to that once their units are in the same order, see
    :func:`~lightning_regimes.landscape.weight_matching.weight_matching`.

    Args:
        probe: stands at :math:`\theta_a`.
        other: :math:`\theta_b`, as a flat vector in the order of the probe's parameters, a state dict, or a module.
        points: number of :math:`\alpha`, equally spaced, at least 3. The maximum is taken over these.
        metric: ``metric(module, batch)``, a number that replaces the loss, such as the error in percent.
        batch_norm: the running statistics that normalisation layers use on the way. ``"recompute"`` takes them from
            one pass over the probe's batches at every point, the ends included, which doubles the cost of a module
            that has such layers. ``"interpolate"`` moves them with the parameters. ``"frozen"`` leaves those of the
            probe. Recomputation is the default: between two solutions the activations shrink, no running statistics
            that come from the ends fit them, and the barrier would be one of the statistics. Nothing differs for a
            probe in the mode ``"train"``.

    Raises:
        TypeError: ``other`` is none of the three.
        ValueError: names or shapes differ, or an argument is out of its range.
        ProbeError: the loss or the metric has state of its own.

    References:
        Frankle, Dziugaite, Roy, Carbin, Linear Mode Connectivity and the Lottery Ticket Hypothesis, arXiv:1912.05671;
        Entezari, Sedghi, Saukh, Neyshabur, The Role of Permutation Invariance in Linear Mode Connectivity of Neural
        Networks, arXiv:2110.06296, definition 2.1; Jordan et al., REPAIR, arXiv:2211.08403, for the statistics.
    """
    far = endpoint(probe, other)
    line = straight_curve(probe.point(), far.vector, "linear")
    positions, losses = losses_on_curve(probe, line, far, points=points, metric=metric, batch_norm=batch_norm)
    index = highest(losses)
    return LossBarrier(
        value=float(losses[index] - mean_of_ends(losses)),
        position=float(positions[index]),
        positions=positions,
        losses=losses,
    )
