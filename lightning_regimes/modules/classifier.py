"""A classifier of vectors or images as a LightningModule."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy

from lightning_regimes.networks import MLP
from lightning_regimes.optim import AdamFactory, OptimizerFactory

Batch = tuple[Tensor, Tensor]


class Classifier(L.LightningModule):
    """Any network that maps inputs to logits, trained by cross-entropy.

    Logged are ``train/loss``, ``val/loss``, ``val/error`` (share of wrong labels) and the same for ``test``.

    Args:
        num_classes: number of classes.
        network: maps a batch of inputs to ``(N, num_classes)`` logits; by default an MLP on ``num_features`` inputs.
        num_features: inputs of the default network.
        optimizer: by default Adam with rate 1e-3.

    Raises:
        ValueError: fewer than two classes.
    """

    model_family = "classifier"

    def __init__(
        self,
        num_classes: int = 10,
        network: nn.Module | None = None,
        *,
        num_features: int = 64,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"`num_classes` is at least 2, got {num_classes}")
        self.num_classes = num_classes
        self.network = network or MLP(num_features, num_classes, hidden_sizes=(64, 32))
        self.optimizer_factory = optimizer or AdamFactory()
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.test_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits, (N, num_classes)."""
        logits: Tensor = self.network(inputs)
        return logits

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return and log the cross-entropy."""
        inputs, labels = batch
        loss = F.cross_entropy(self(inputs), labels)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """Log the loss."""
        self._evaluate("val", self.val_accuracy, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the error rate over the whole validation set."""
        self._log_error("val", self.val_accuracy)

    def test_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """Log the loss."""
        self._evaluate("test", self.test_accuracy, batch)

    def on_test_epoch_end(self) -> None:
        """Log the error rate over the whole test set."""
        self._log_error("test", self.test_accuracy)

    def predict_step(self, batch: Batch | Tensor, batch_idx: int = 0) -> Tensor:
        """Return the most likely class of each sample, (N,)."""
        logits = self(batch if isinstance(batch, Tensor) else batch[0])
        return logits.argmax(dim=-1)

    def configure_optimizers(self) -> Any:
        """Return what the optimizer factory makes of this module."""
        return self.optimizer_factory(self)

    def trivial_loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy of the uniform prediction, log(num_classes)."""
        return batch[0].new_tensor(math.log(self.num_classes))

    def _evaluate(self, stage: str, accuracy: MulticlassAccuracy, batch: Batch) -> None:
        inputs, labels = batch
        logits = self(inputs)
        self.log(f"{stage}/loss", F.cross_entropy(logits, labels), prog_bar=True)
        accuracy.update(logits, labels)

    def _log_error(self, stage: str, accuracy: MulticlassAccuracy) -> None:
        self.log(f"{stage}/error", 1 - accuracy.compute(), prog_bar=True)
        accuracy.reset()
