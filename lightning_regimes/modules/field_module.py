"""What modules that map fields to fields have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, TypeAlias

import lightning as L
import torch
from torch import Tensor, nn

from lightning_regimes.modules.field_scaling import FieldScaling
from lightning_regimes.modules.heldout_fields import field_picture, heldout_fields
from lightning_regimes.modules.scheduled_optimizer import scheduled_optimizer
from lightning_regimes.optim import OptimizerFactory

Batch: TypeAlias = Mapping[str, Tensor]


class FieldModule(L.LightningModule):
    """Scales fields by the datamodule's normalizers, and gives the numbers that tell a regime.

    A batch is ``{"x": (B, C, n₁, …), "y": (B, C′, n₁, …)}``.

    Args:
        optimizer: makes the optimizer of the module.
        warmup: the part of all steps in which the learning rate rises before it falls along a cosine; None for no
            schedule but the optimizer's own.
        min_lr_ratio: the part of the learning rate that is left in the end.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(self, optimizer: OptimizerFactory, *, warmup: float | None, min_lr_ratio: float) -> None:
        super().__init__()
        if warmup is not None and not 0 <= warmup < 1:
            raise ValueError(f"`warmup` is in [0, 1) or None, got {warmup}")
        if not 0 <= min_lr_ratio <= 1:
            raise ValueError(f"`min_lr_ratio` is between 0 and 1, got {min_lr_ratio}")
        self.optimizer_factory = optimizer
        self.warmup, self.min_lr_ratio = warmup, min_lr_ratio
        self.input_scaling, self.output_scaling = FieldScaling(), FieldScaling()
        self._checked: set[tuple[int, ...]] = set()
        self._shown: Batch | None = None
        self._heldout: Batch | None = None

    # What a module defines

    @property
    @abstractmethod
    def trained_network(self) -> nn.Module:
        """The network that is trained, whose device and precision fields are brought to."""

    @abstractmethod
    def predict(self, fields: Tensor) -> Tensor:
        """Return the predictions that the regime is told by, in their own units."""

    @abstractmethod
    def errors(self, predicted: Tensor, reference: Tensor) -> Tensor:
        """Return the relative errors of the samples, with their number as the first dimension."""

    # What follows

    def setup(self, stage: str) -> None:
        """Take the scaling of the fields from the datamodule."""
        normalizers = getattr(self._datamodule, "normalizers", None)
        if stage == "fit" and normalizers is not None:
            self.input_scaling.fit(normalizers["x"])
            self.output_scaling.fit(normalizers["y"])

    def on_fit_start(self) -> None:
        """Take the samples that :meth:`heldout_loss` and :meth:`reference_error` are evaluated on."""
        self._heldout = heldout_fields(self._datamodule)

    def plain_loss(self, batch: Batch) -> Tensor:
        """Return the mean square of the relative error, which other losses can be read against."""
        return self.errors(self.predict(batch["x"]), batch["y"]).square().mean()

    def trivial_loss(self, batch: Batch) -> Tensor:
        """Return :meth:`plain_loss` of the mean of all training fields, zero where it isn't known."""
        mean = self.output_scaling.denormalize(torch.zeros_like(batch["y"]))
        return self.errors(mean, batch["y"]).square().mean()

    def heldout_loss(self) -> Tensor | None:
        """Return :meth:`plain_loss` of samples that training never sees, None if the datamodule has no ``fields``."""
        return None if self._heldout is None else self.plain_loss(self._like_network(self._heldout))

    def reference_error(self) -> Tensor | None:
        """Return the mean relative error on samples that training never sees, None if there are none."""
        if self._heldout is None:
            return None
        batch = self._like_network(self._heldout)
        with torch.no_grad():
            return self.errors(self.predict(batch["x"]), batch["y"]).mean()

    def field_on_grid(self) -> dict[str, Any]:
        """Return input, prediction and reference for the first sample of the validation data, for pictures.

        Raises:
            RuntimeError: no validation data has been seen yet, or it isn't two-dimensional.
        """
        if self._shown is None or self._shown["x"].ndim != 4:
            raise RuntimeError("a picture takes two-dimensional validation data, and none has been seen yet")
        fields = self._like_network(self._shown)["x"][:1]
        with torch.no_grad():
            return field_picture(fields, self(fields), self._shown["y"])

    def predict_step(self, batch: Batch | Tensor, batch_idx: int = 0, dataloader_idx: int = 0) -> Tensor:
        """Return the predicted fields."""
        predicted: Tensor = self(batch if isinstance(batch, Tensor) else batch["x"])
        return predicted

    def configure_optimizers(self) -> Any:
        """Return what the optimizer factory makes of this module, with the schedule where it brings none."""
        return scheduled_optimizer(self, self.optimizer_factory, warmup=self.warmup, min_lr_ratio=self.min_lr_ratio)

    def _like_network(self, batch: Batch) -> dict[str, Tensor]:
        weight = next(self.trained_network.parameters()).real
        return {name: field.to(device=weight.device, dtype=weight.dtype) for name, field in batch.items()}

    @property
    def _datamodule(self) -> Any:
        return None if self._trainer is None else getattr(self._trainer, "datamodule", None)
