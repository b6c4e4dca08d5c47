"""Whether a path of low loss leads from the weights to those of another training."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import lightning as L
import torch
from torch import Tensor

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.reference_weights import load_weights
from lightning_regimes.landscape import ConnectingCurve, mode_connectivity, weight_matching
from lightning_regimes.landscape.normalization_statistics import probed_statistics
from lightning_regimes.landscape.path_losses import highest
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A step of the curve is a loss with its gradient, about as much as three losses.
_LOSSES_PER_STEP = 3


class ModeConnectivity(Diagnostic):
    r"""Records the loss barrier to another solution, and how low a curve between them comes.

    The barrier is the highest loss on the straight line above the mean of its ends. Mode connectivity is the mean of
    the ends minus the loss where a trained curve differs most from it: negative where a barrier stays, near 0 where
    the solutions are connected, positive where the ends are under-trained.

    Args:
        reference: checkpoint of another training of the same module, or a file with its state dict.
        path: ``"bezier"`` or ``"polygonal"`` trains a curve between the two; ``"linear"`` looks at the line alone.
        steps: of the curve's optimizer.
        learning_rate: of the curve.
        num_bends: points of the curve that are trained.
        points: of line and curve at which the loss is evaluated.
        match: ``"permutation"`` first puts the hidden units of the reference into the order of this network's, and
            ``"sign"`` also turns their signs where activations are odd; for chains of linear and convolutional layers.
        batch_norm: ``"recompute"`` takes the running statistics of each point, ``"interpolate"`` those between the
            ends, ``"frozen"`` this network's.
        seed: of the curve's training.
        at_end: measure when training ends.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.

    Raises:
        ValueError: an option is out of range.

    References:
        Garipov et al., arXiv:1802.10026 (curves); Yang et al., arXiv:2107.11228 (mode connectivity); Ainsworth et al.,
        arXiv:2209.04836 (matching).
    """

    name: ClassVar[str] = "connectivity"

    def __init__(
        self,
        reference: str | os.PathLike[str],
        *,
        path: Literal["linear", "bezier", "polygonal"] = "bezier",
        steps: int = 300,
        learning_rate: float = 0.01,
        num_bends: int = 1,
        points: int = 21,
        match: Literal["none", "permutation", "sign"] = "none",
        batch_norm: Literal["recompute", "interpolate", "frozen"] = "recompute",
        seed: int = 0,
        at_end: bool = True,
        **options: Any,
    ) -> None:
        if path not in ("linear", "bezier", "polygonal"):
            raise ValueError(f"`path` is 'linear', 'bezier' or 'polygonal', got {path!r}")
        if match not in ("none", "permutation", "sign"):
            raise ValueError(f"`match` is 'none', 'permutation' or 'sign', got {match!r}")
        if batch_norm not in ("recompute", "interpolate", "frozen"):
            raise ValueError(f"`batch_norm` is 'recompute', 'interpolate' or 'frozen', got {batch_norm!r}")
        for option, value, smallest in (("steps", steps, 1), ("num_bends", num_bends, 1), ("points", points, 3)):
            if value < smallest:
                raise ValueError(f"`{option}` is at least {smallest}, got {value}")
        if not 0 < learning_rate < float("inf"):
            raise ValueError(f"`learning_rate` is positive, got {learning_rate}")
        self.reference = reference
        self.path = path
        self.steps = steps
        self.learning_rate = learning_rate
        self.num_bends = num_bends
        self.points = points
        self.match = match
        self.batch_norm = batch_norm
        self.seed = seed
        self._weights: dict[str, Tensor] = {}
        super().__init__(at_end=at_end, **options)

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Load the reference, and match it once to see that it can be."""
        self._weights = load_weights(self.reference)
        missing = [name for name, _ in pl_module.named_parameters() if name not in self._weights]
        if missing:
            raise ValueError(
                f"`reference` {os.fspath(self.reference)!r} lacks {missing[0]!r} of {type(pl_module).__name__}: only "
                "solutions of one architecture can be connected"
            )
        for name, parameter in pl_module.named_parameters():
            if not parameter.requires_grad and not torch.equal(self._weights[name].to(parameter), parameter):
                raise ValueError(
                    f"`reference` {os.fspath(self.reference)!r} differs in {name!r}, which is not trained here: a path "
                    "would have to change it as well"
                )
        self._matched(pl_module)

    def expected_units(self) -> int:
        """Evaluations of the loss."""
        return self.points if self.path == "linear" else 2 * self.points + _LOSSES_PER_STEP * self.steps

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Return the time of an evaluation."""
        probe.loss()
        start = time.perf_counter()
        probe.loss()
        return time.perf_counter() - start

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Go along the line, and along a curve."""
        other = self._matched(pl_module)
        line = mode_connectivity(probe, other, "linear", points=self.points, batch_norm=self.batch_norm)
        curve = line if self.path == "linear" else self._curve(probe, other)
        barrier = highest(line.losses)
        arrays = {"connectivity/positions": line.positions, "connectivity/losses": line.losses}
        if self.path != "linear":
            arrays["connectivity/curve_losses"] = curve.losses
        return Measurement(
            scalars={
                "connectivity/barrier": line.barrier,
                "connectivity/barrier_position": float(line.positions[barrier]),
                "connectivity/mode_connectivity": curve.value,
                "connectivity/num_evaluations": self._num_evaluations(probe),
            },
            arrays=arrays,
            context={
                "reference": os.fspath(self.reference),
                "path": self.path,
                "match": self.match,
                "batch_norm": self.batch_norm,
                "mode": self.mode,
                "loss_source": probe.loss_source,
            },
            figures={"connectivity/path": lambda: draw_paths(line, curve)},
        )

    def _curve(self, probe: LossProbe, other: dict[str, Tensor]) -> ConnectingCurve:
        return mode_connectivity(
            probe,
            other,
            self.path,
            steps=self.steps,
            learning_rate=self.learning_rate,
            num_bends=self.num_bends,
            points=self.points,
            batch_norm=self.batch_norm,
            seed=self.seed,
        )

    def _num_evaluations(self, probe: LossProbe) -> int:
        """Return the evaluations of the loss, those that running statistics and gradients are taken from included."""
        points = self.points if self.path == "linear" else 2 * self.points
        if self.batch_norm == "recompute" and probed_statistics(probe):
            points *= 2
        return points + (0 if self.path == "linear" else self.steps)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of the reference."""
        super().teardown(trainer, pl_module, stage)
        self._weights = {}

    def _matched(self, pl_module: L.LightningModule) -> dict[str, Tensor]:
        if self.match == "none":
            return self._weights
        return weight_matching(pl_module, self._weights, sign=self.match == "sign", seed=self.seed).state


def draw_paths(line: ConnectingCurve, curve: ConnectingCurve) -> Figure:
    """Draw the loss along the line and along the curve, where there is one."""
    from lightning_regimes.landscape.path_figure import draw_path

    curves = {"straight line": line.losses} | ({} if curve.path == "linear" else {f"{curve.path} curve": curve.losses})
    return draw_path(line.positions, curves, label="from these weights (0) to the reference (1)")
