"""Which split of the learning rate over the layers the next steps would do best with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import numpy as np
import torch

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.optim import LayerSplits, layer_names, probe_layer_split
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARES = 11


class LayerSplit(Diagnostic):
    r"""Records the loss after one and more steps of gradient descent over the splits of the learning rate.

    For 11 shares f of the first layer in the sum of the rates, from 0 to 1, the others alike, steps along the gradient
    of the first half of the captured batches are tried from the present weights, and the loss on the other half is
    evaluated (:func:`~lightning_regimes.optim.probe_layer_split`); on a single batch it is the training loss. What
    :class:`~lightning_regimes.optim.LayerBalancedLR` should be told is the best of them. The training is not touched.

    A module may know more: what its ``theoretical_split_losses(shares, learning_rate, steps)`` returns for shares of
    shape (11, 2), a tensor of shape (11,) or None, is recorded and drawn beside what is measured.

    Args:
        steps: numbers of steps after which the loss is evaluated.
        learning_rate: mean over the layers; default that of a training by SGD.
        layers: glob patterns on names of parameters, one a layer; default all layers with weights.
        num_batches: how many of the first training batches to look at.
        at_start: measure before training changes the weights.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.

    Raises:
        ValueError: an option is out of range.

    References:
        Layer balancing, arXiv:2606.00340, whose figures are these curves.
    """

    name: ClassVar[str] = "layer_split"

    def __init__(
        self,
        steps: Sequence[int] = (1, 2),
        *,
        learning_rate: float | None = None,
        layers: Sequence[str] | None = None,
        num_batches: int = 2,
        at_start: bool = True,
        **options: Any,
    ) -> None:
        if not steps or min(steps) < 1:
            raise ValueError(f"`steps` are numbers of at least 1, got {steps}")
        if learning_rate is not None and not learning_rate > 0:
            raise ValueError(f"`learning_rate` is positive, got {learning_rate}")
        self.steps = tuple(steps)
        self.learning_rate = learning_rate
        self.layers = layers
        super().__init__(num_batches=num_batches, at_start=at_start, **options)

    def reset(self) -> None:
        """Forget everything about a training."""
        super().reset()
        self._heldout: LossProbe | None = None

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Require a step size, and layers."""
        self._learning_rate(trainer, pl_module)
        trained = [(name, parameter) for name, parameter in pl_module.named_parameters() if parameter.requires_grad]
        if self.layers is None and len(layer_names(trained)) < 2:
            raise ValueError("a split takes two layers or more; name them by `layers`")

    def probe(self, pl_module: L.LightningModule) -> LossProbe:
        """Return a probe on the first half of the batches, and keep one on the other half."""
        half = (len(self.batches.kept) + 1) // 2
        first, second = (
            LossProbe(
                pl_module,
                batches,
                mode=self.mode,
                dtype=self._dtype,
                process_group=self._group,
                **self._sources,
            )
            for batches in (self.batches.kept[:half], self.batches.kept[half:] or self.batches.kept)
        )
        self._heldout = second
        return first

    def expected_units(self) -> int:
        """Gradients, the loss counted as one."""
        return sum(1 + (_SHARES + 1) * steps for steps in self.steps) * ((self.num_batches + 1) // 2)

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Return the time of a gradient on a batch."""
        probe.gradient()
        start = time.perf_counter()
        probe.gradient()
        return (time.perf_counter() - start) / probe.num_batches

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Try the splits."""
        heldout, self._heldout = self._heldout, None
        if heldout is None:
            return Measurement()
        rate = self._learning_rate(trainer, pl_module)
        found = [
            probe_layer_split(probe, heldout, learning_rate=rate, layers=self.layers, steps=steps)
            for steps in self.steps
        ]
        theory = [_theory(pl_module, splits, rate) for splits in found]
        scalars: dict[str, float] = {}
        for splits in found:
            if bool(torch.isfinite(splits.losses).any()):
                scalars[f"layer_split/best_share_{splits.steps}"] = float(splits.splits[splits.best, 0])
                scalars[f"layer_split/gain_{splits.steps}"] = splits.equal - float(splits.losses[splits.best])
            else:
                self.warn(f"LayerSplit: all splits of {rate:g} diverge within {splits.steps} steps", once="diverged")
        gradients = sum(1 + (_SHARES + 1) * (steps - 1) for steps in self.steps) * probe.num_batches
        scalars["layer_split/num_evaluations"] = gradients + (_SHARES + 2) * len(self.steps) * heldout.num_batches
        shares = found[0].splits[:, 0].numpy()
        losses = np.stack([splits.losses.numpy() for splits in found])
        arrays = {"layer_split/shares": shares, "layer_split/losses": losses}
        if all(values is not None for values in theory):
            arrays["layer_split/theory_losses"] = np.stack([values for values in theory if values is not None])
        return Measurement(
            scalars=scalars,
            arrays=arrays,
            context={
                "layers": list(found[0].layers),
                "steps": list(self.steps),
                "learning_rate": rate,
                "start": found[0].start,
                "is_heldout": len(self.batches.kept) > 1,
                "loss_source": probe.loss_source,
            },
            figures={
                "layer_split/curves": lambda: draw_splits(
                    self.steps, shares, losses, arrays.get("layer_split/theory_losses"), len(found[0].layers)
                )
            },
        )

    def _learning_rate(self, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        if self.learning_rate is not None:
            return self.learning_rate
        optimizers = self.optimizers(trainer)
        if len(optimizers) != 1 or type(optimizers[0]).__name__ != "SGD":
            raise ValueError(
                "`learning_rate` is that of steps along the gradient, which only SGD takes: give it for another "
                f"optimizer, got {', '.join(type(optimizer).__name__ for optimizer in optimizers)}"
            )
        groups = optimizers[0].param_groups
        # The layers' own mean, which a LayerBalancedLR conserves.
        own = [group for group in groups if group.get("lr_multiplier") is not None] or groups
        rate = sum(float(group["lr"]) for group in own) / len(own)
        if not rate > 0:
            raise ValueError("`learning_rate` is positive, got the optimizer's, which is zero now")
        return rate


def _theory(pl_module: Any, splits: LayerSplits, learning_rate: float) -> np.ndarray | None:
    method = getattr(pl_module, "theoretical_split_losses", None)
    values = method(splits.splits, learning_rate, splits.steps) if callable(method) else None
    return None if values is None else values.double().cpu().numpy()


def draw_splits(
    steps: Sequence[int], shares: np.ndarray, losses: np.ndarray, theory: np.ndarray | None, num_layers: int
) -> Figure:
    """Draw the loss over the share of the first layer after each number of steps, theory as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 + 3.4 * len(steps), 3.2), layout="constrained")
    panels = figure.subplots(1, len(steps), squeeze=False)[0]
    for index, (axes, count) in enumerate(zip(panels, steps, strict=True)):
        axes.plot(shares, losses[index], "o", color="#4c72b0", label="measured")
        if theory is not None:
            axes.plot(shares, theory[index], color="#dd8452", label="theory")
        axes.axvline(1 / num_layers, color="0.4", linestyle="--", label="equal rates")
        axes.set(xlabel="share of the first layer", title="after a step" if count == 1 else f"after {count} steps")
    panels[0].set_ylabel("loss")
    panels[0].legend(fontsize="small")
    return figure
