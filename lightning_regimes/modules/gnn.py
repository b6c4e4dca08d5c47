"""A classifier of the nodes of a graph as a LightningModule."""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError, MulticlassF1Score

from lightning_regimes.modules.stored_configuration import as_class_path
from lightning_regimes.networks import GraphNetwork
from lightning_regimes.optim import AdamFactory, OptimizerFactory

Stage = Literal["train", "val", "test"]


class NodeBatch(Protocol):
    """A graph, or a part of one around some seed nodes, such as PyG's ``Data``."""

    x: Tensor
    edge_index: Tensor
    y: Tensor


class GNN(L.LightningModule):
    """A graph network that gives each node logits, trained by cross-entropy on the labelled nodes.

    A batch is a whole graph with ``train_mask``, ``val_mask`` and ``test_mask``, or a part sampled around seed nodes:
    one with a ``batch_size``, whose first so many nodes are the seeds, as PyG's ``NeighborLoader`` and
    :class:`~lightning_regimes.datamodules.GraphNodes` make it.

    Logged are ``train/loss``, ``val/loss``, ``val/accuracy``, ``val/error`` (share of wrong labels), ``val/f1`` (mean
    over classes), ``val/calibration_error`` (expected, 15 bins) and the same for ``test``.

    Args:
        num_features: features of a node, for the default network.
        num_classes: number of classes.
        network: maps ``(x, edge_index)``, and ``edge_weight`` where the graph has weights, to ``(n, num_classes)``
            logits; by default a :class:`~lightning_regimes.networks.GraphNetwork` made from the following arguments.
        convolution: "GCN", "GAT", "GraphSAGE", "GIN" or a class path.
        convolution_options: passed on to the convolution.
        hidden_features: width of the hidden layers.
        num_layers: number of convolutions.
        dropout: probability with which a hidden feature is zeroed in training.
        optimizer: by default AdamW with rate 1e-2 and weight decay 5e-4.

    Raises:
        ValueError: a number is out of range.

    References:
        M. P. Naeini, G. F. Cooper, M. Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning",
        AAAI 2015 (calibration error).
    """

    def __init__(
        self,
        num_features: int = 64,
        num_classes: int = 5,
        network: nn.Module | None = None,
        *,
        convolution: str = "GCN",
        convolution_options: dict[str, Any] | None = None,
        hidden_features: int = 16,
        num_layers: int = 2,
        dropout: float = 0.5,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"`num_classes` is at least 2, got {num_classes}")
        self.num_classes = num_classes
        self.network = network or GraphNetwork(
            num_features,
            num_classes,
            convolution=convolution,
            convolution_options=convolution_options,
            hidden_features=hidden_features,
            num_layers=num_layers,
            dropout=dropout,
        )
        self.optimizer_factory = optimizer or AdamFactory(lr=1e-2, weight_decay=5e-4)
        configuration = {
            "num_features": num_features,
            "num_classes": num_classes,
            "network": None if network is None else as_class_path(network),
            "convolution": convolution,
            "convolution_options": convolution_options,
            "hidden_features": hidden_features,
            "num_layers": num_layers,
            "dropout": dropout,
            "optimizer": as_class_path(self.optimizer_factory),
        }
        given = {name: value for name, value in configuration.items() if value is not None}
        self.save_hyperparameters({**given, "_instantiator": "lightning.pytorch.cli.instantiate_module"})
        self.metrics = nn.ModuleDict({stage: _metrics(num_classes) for stage in ("validation", "testing")})

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None) -> Tensor:
        """Return the logits of all nodes, (n, num_classes)."""
        weights = () if edge_weight is None else (edge_weight,)
        logits: Tensor = self.network(x, edge_index, *weights)
        return logits

    def setup(self, stage: str) -> None:
        """Hold the sizes of the network against the graph of the datamodule.

        Raises:
            ValueError: the graph has other features than the network, or labels beyond its classes.
        """
        data = getattr(getattr(self.trainer, "datamodule", None), "data", None)
        features, labels = getattr(data, "x", None), getattr(data, "y", None)
        expected = getattr(self.network, "num_features", None)
        if isinstance(features, Tensor) and expected is not None and features.shape[1] != expected:
            raise ValueError(f"`num_features` is {features.shape[1]} for this graph, got {expected}")
        if isinstance(labels, Tensor) and labels.numel() and int(labels.max()) >= self.num_classes:
            raise ValueError(
                f"`num_classes` is at least {int(labels.max()) + 1} for this graph, got {self.num_classes}"
            )

    def training_step(self, batch: NodeBatch, batch_idx: int = 0) -> Tensor:
        """Return and log the cross-entropy of the training nodes."""
        logits, labels = self._labelled(batch, "train")
        loss = F.cross_entropy(logits, labels)
        self.log("train/loss", loss, prog_bar=True, batch_size=labels.shape[0])
        return loss

    def validation_step(self, batch: NodeBatch, batch_idx: int = 0) -> None:
        """Log the loss."""
        self._evaluate("val", "validation", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics over all validation nodes."""
        self._log_metrics("val", "validation")

    def test_step(self, batch: NodeBatch, batch_idx: int = 0) -> None:
        """Log the loss."""
        self._evaluate("test", "testing", batch)

    def on_test_epoch_end(self) -> None:
        """Log the metrics over all test nodes."""
        self._log_metrics("test", "testing")

    def predict_step(self, batch: NodeBatch, batch_idx: int = 0) -> Tensor:
        """Return the most likely class of each node, of each seed where the batch has some."""
        logits = self._logits(batch)
        num_seeds = getattr(batch, "batch_size", None)
        return (logits if num_seeds is None else logits[:num_seeds]).argmax(dim=-1)

    def configure_optimizers(self) -> Any:
        """Return what the optimizer factory makes of this module."""
        return self.optimizer_factory(self)

    def diagnostic_loss(self, batch: NodeBatch) -> Tensor:
        """Return the cross-entropy of the training nodes, without logging it."""
        return F.cross_entropy(*self._labelled(batch, "train"))

    def trivial_loss(self, batch: NodeBatch) -> Tensor:
        """Return the cross-entropy of the uniform prediction, log(num_classes)."""
        return batch.x.new_tensor(math.log(self.num_classes))

    def _logits(self, batch: NodeBatch) -> Tensor:
        logits: Tensor = self(batch.x, batch.edge_index, getattr(batch, "edge_weight", None))
        return logits

    def _labelled(self, batch: NodeBatch, stage: Stage) -> tuple[Tensor, Tensor]:
        logits = self._logits(batch)
        num_seeds = getattr(batch, "batch_size", None)
        if num_seeds is not None:
            return logits[:num_seeds], batch.y[:num_seeds]
        mask = getattr(batch, f"{stage}_mask", None)
        if mask is None:
            raise ValueError(f"a whole graph needs a `{stage}_mask`, and this one has none")
        return logits[mask], batch.y[mask]

    def _evaluate(self, stage: Stage, owner: str, batch: NodeBatch) -> None:
        logits, labels = self._labelled(batch, stage)
        loss = F.cross_entropy(logits, labels)
        self.log(f"{stage}/loss", loss, prog_bar=True, batch_size=labels.shape[0])
        probabilities = torch.softmax(logits, dim=-1)
        for metric in self._metrics_of(owner).values():
            metric.update(probabilities, labels)  # type: ignore[operator]

    def _log_metrics(self, stage: Stage, owner: str) -> None:
        values = {name: metric.compute() for name, metric in self._metrics_of(owner).items()}  # type: ignore[operator]
        values["error"] = 1 - values["accuracy"]
        self.log_dict({f"{stage}/{name}": value for name, value in values.items() if name != "error"})
        self.log(f"{stage}/error", values["error"], prog_bar=True)
        for metric in self._metrics_of(owner).values():
            metric.reset()  # type: ignore[operator]

    def _metrics_of(self, owner: str) -> nn.ModuleDict:
        metrics = self.metrics[owner]
        assert isinstance(metrics, nn.ModuleDict)
        return metrics


def _metrics(num_classes: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "f1": MulticlassF1Score(num_classes, average="macro"),
            "calibration_error": MulticlassCalibrationError(num_classes, n_bins=15, norm="l1"),
        }
    )
