"""How far the layers' representations have moved from those at the start, or at a checkpoint."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import lightning as L
import numpy as np
from torch import Tensor

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.reference_weights import copied_weights, load_weights
from lightning_regimes.landscape import probed_cka
from lightning_regimes.landscape.activations import matching_layers
from lightning_regimes.probe import LossProbe
from lightning_regimes.recording import Table


class CKASimilarity(Diagnostic):
    """Records the centred kernel alignment (CKA) of each layer with the same layer at other weights.

    CKA is 1 where a layer tells the samples apart as it did, up to rotation and scale, and falls as its representation
    changes. A layer that is constant over the samples has none: NaN, and a warning that names it.

    Args:
        reference: ``"init"``, the weights that the training starts from, or a checkpoint of the same module. The
            initial weights are kept on the CPU and in checkpoints.
        layers: names of submodules or glob patterns; by default all without children that return a row a sample.
        estimator: ``"unbiased"`` needs batches of at least 4 samples, ``"biased"`` of 2.
        num_batches: how many of the first training batches the layers are compared on.
        at_end: measure when training ends.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.

    Raises:
        ValueError: an option is out of range.

    References:
        Kornblith, Norouzi, Lee, Hinton, Similarity of Neural Network Representations Revisited, arXiv:1905.00414.
    """

    name: ClassVar[str] = "similarity"

    def __init__(
        self,
        reference: str | os.PathLike[str] = "init",
        *,
        layers: str | Sequence[str] | None = None,
        estimator: Literal["unbiased", "biased"] = "unbiased",
        num_batches: int = 4,
        at_end: bool = True,
        **options: Any,
    ) -> None:
        if estimator not in ("unbiased", "biased"):
            raise ValueError(f"`estimator` is 'unbiased' or 'biased', got {estimator!r}")
        self.reference = reference
        self.layers = layers
        self.estimator = estimator
        self._weights: dict[str, Tensor] = {}
        super().__init__(num_batches=num_batches, at_end=at_end, **options)

    def reset(self) -> None:
        """Forget everything about a training."""
        super().reset()
        self._weights = {}

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Take the reference, and look up the layers."""
        matching_layers(pl_module, self.layers, "layers")
        if self.reference != "init":
            self._weights = load_weights(self.reference)
        elif not self._weights:
            self._weights = copied_weights(pl_module)

    def expected_units(self) -> int:
        """Passes through the network, with the loss."""
        return 2 * self.num_batches

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Return the time of a pass."""
        probe.batch_value(0)
        start = time.perf_counter()
        probe.batch_value(0)
        return time.perf_counter() - start

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Compare the layers."""
        result = probed_cka(probe, self._weights, self.layers, estimator=self.estimator)
        scalars = {
            f"similarity/cka_{name}": float(value) for name, value in zip(result.layers, result.values, strict=True)
        }
        finite = result.values[np.isfinite(result.values)]
        scalars["similarity/cka_mean"] = float(finite.mean()) if len(finite) else float("nan")
        scalars["similarity/num_evaluations"] = 2 * probe.num_batches
        rows = [(name, float(value)) for name, value in zip(result.layers, result.values, strict=True)]
        return Measurement(
            scalars=scalars,
            arrays={"similarity/cka": result.values},
            context={
                "layers": list(result.layers),
                "reference": os.fspath(self.reference),
                "estimator": self.estimator,
                "num_samples": result.num_samples,
                "loss_source": probe.loss_source,
            },
            figures={"similarity/layers": result.figure},
            tables={"similarity/layers_table": Table(("layer", "CKA"), rows)},
        )

    def state_dict(self) -> dict[str, Any]:
        """The schedule, and the initial weights if these are the reference."""
        return super().state_dict() | {"weights": self._weights if self.reference == "init" else {}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        super().load_state_dict(state_dict)
        if self.reference == "init":
            self._weights = state_dict["weights"]
