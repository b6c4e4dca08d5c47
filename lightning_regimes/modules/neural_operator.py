"""Training of neural operators, maps between fields, as a LightningModule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lightning_regimes.metrics.spectral_bands import spectral_band_errors
from lightning_regimes.metrics.vrmse import variance_scaled_errors
from lightning_regimes.modules.field_module import Batch, FieldModule
from lightning_regimes.modules.logged_steps import is_logged_step
from lightning_regimes.modules.operator_checks import check_input
from lightning_regimes.modules.operator_losses import LossKind, check_loss, relative_errors, relative_l2_errors
from lightning_regimes.modules.rollout import rollout
from lightning_regimes.modules.stored_configuration import as_class_path
from lightning_regimes.modules.stored_operator import (
    as_operator_class_path,
    build_operator,
    leave_out_operator_metadata,
)
from lightning_regimes.optim import AdamFactory, OptimizerFactory


class NeuralOperator(FieldModule):
    r"""A map from fields to fields, trained by the relative error of each sample.

    A batch is ``{"x": (B, C, n₁, …), "y": (B, C′, n₁, …)}``. Fields are scaled by the normalizers of the datamodule, if
    it has any, on their way into the network and out of it, and errors are those of fields in their own units:

    .. math:: L = \frac{1}{B} \sum_b \frac{\|\hat u_b - u_b\|}{\|u_b\|}
        + w \frac{1}{B} \sum_b \frac{\|r(x_b, \hat u_b)\|_2}{\|r(x_b, 0)\|_2}

    where r is the residual of a differential equation at the predictions, which needs no target (a physics-informed
    neural operator); the datamodule has it as a method ``residual(x, prediction)``.

    Logged are ``train/loss``, ``train/data``, ``train/physics``, and for "val" and "test": ``loss`` (the mean square of
    the relative error, see :meth:`plain_loss`), ``rel_l2``, ``rel_h1`` if that is the loss, ``vrmse``, ``residual``
    with physics, and ``band_low``, ``band_mid``, ``band_high``, the mean squared error in three bands of the
    wavenumber. Loaders after the first have their names from the datamodule's ``dataloader_names(part)``: one of
    another resolution logs ``rel_l2_at_64`` and ``vrmse_at_64``, say, and "rollout", whose batches have a "trajectory"
    too, the VRMSE of predictions that are fed back: ``rollout_vrmse_1``, …, their mean ``rollout_vrmse``, and the part
    of samples that ended not finite, ``rollout_nonfinite``.

    Args:
        operator: any model of neuraloperator, or any network from fields to fields; or its ``class_path`` and
            ``init_args``.
        optimizer: by default AdamW with rate 1e-3 and weight decay 1e-4.
        loss: "l2" or "h1", the norm of the relative error.
        periodic: whether fields are, which the slopes of "h1" depend on.
        physics_weight: w; 0 for none.
        data_weight: factor of the first term, 0 to train without targets.
        warmup: the part of all steps in which the learning rate rises before it falls along a cosine; None for no
            schedule but the optimizer's own.
        min_lr_ratio: the part of the learning rate that is left in the end.

    Raises:
        ValueError: an argument is out of its range, or the data doesn't fit the operator.

    References:
        Z. Li et al., "Fourier Neural Operator for Parametric Partial Differential Equations", ICLR 2021,
        arXiv:2010.08895; "Physics-Informed Neural Operator for Learning Partial Differential Equations",
        arXiv:2111.03794.
    """

    def __init__(
        self,
        operator: dict[str, Any] | nn.Module,
        *,
        optimizer: OptimizerFactory | None = None,
        loss: LossKind = "l2",
        periodic: bool = False,
        physics_weight: float = 0.0,
        data_weight: float = 1.0,
        warmup: float | None = 0.0,
        min_lr_ratio: float = 0.0,
    ) -> None:
        factory = optimizer or AdamFactory(lr=1e-3, weight_decay=1e-4)
        super().__init__(factory, warmup=warmup, min_lr_ratio=min_lr_ratio)
        check_loss(loss)
        if min(physics_weight, data_weight) < 0 or physics_weight + data_weight == 0:
            raise ValueError(
                "`physics_weight` and `data_weight` aren't negative nor both zero, got "
                f"{physics_weight} and {data_weight}"
            )
        self.operator = operator = build_operator(operator)
        self.loss = loss
        self.periodic = periodic
        self.physics_weight, self.data_weight = physics_weight, data_weight
        leave_out_operator_metadata(self)
        configuration = {
            "operator": as_operator_class_path(operator),
            "optimizer": as_class_path(self.optimizer_factory),
            "loss": loss,
            "periodic": periodic,
            "physics_weight": physics_weight,
            "data_weight": data_weight,
            "warmup": warmup,
            "min_lr_ratio": min_lr_ratio,
        }
        given = {name: value for name, value in configuration.items() if value is not None}
        self.save_hyperparameters({**given, "_instantiator": "lightning.pytorch.cli.instantiate_module"})

    def setup(self, stage: str) -> None:
        """Take the scaling of the fields from the datamodule, and require its residual where there are physics."""
        super().setup(stage)
        if stage == "fit" and self.physics_weight > 0 and not callable(getattr(self._datamodule, "residual", None)):
            raise ValueError(
                "`physics_weight` needs a datamodule with a method `residual(x, prediction)`, such as Darcy, got "
                f"{type(self._datamodule).__name__}"
            )

    # ------------------------------------------------------------------ predictions and their loss

    def forward(self, fields: Tensor) -> Tensor:
        """Return the predicted fields, (B, C′, n₁, …), both in their own units."""
        if fields.shape not in self._checked:
            check_input(self.operator, fields)
            self._checked.add(fields.shape)
        return self.output_scaling.denormalize(self.operator(self.input_scaling.normalize(fields)))

    def predict(self, fields: Tensor) -> Tensor:
        """Return the predicted fields."""
        predicted: Tensor = self(fields)
        return predicted

    def errors(self, predicted: Tensor, reference: Tensor) -> Tensor:
        """Return the relative error of each sample, (B,), in the norm of the loss."""
        return relative_errors(predicted, reference, kind=self.loss, periodic=self.periodic)

    @property
    def trained_network(self) -> nn.Module:
        """The operator."""
        return self.operator

    def rollout(self, window: Tensor, num_steps: int) -> Tensor:
        """Return the fields that follow a window, (B, num_steps, C′, n₁, …): see :func:`rollout`."""
        return rollout(self, window, num_steps)

    def loss_components(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms that the training loss is the sum of, by name, weights included."""
        predicted, terms = self(batch["x"]), {}
        if self.data_weight > 0:
            terms["data"] = self.data_weight * self.errors(predicted, batch["y"]).mean()
        if self.physics_weight > 0:
            terms["physics"] = self.physics_weight * self._relative_residual(batch["x"], predicted)
        return terms

    def diagnostic_loss(self, batch: Batch) -> Tensor:
        """Return the training loss."""
        return torch.stack(list(self.loss_components(batch).values())).sum()

    # ------------------------------------------------------------------ training and evaluation

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the loss and log it with its terms."""
        terms = self.loss_components(batch)
        loss = torch.stack(list(terms.values())).sum()
        if is_logged_step(self):
            self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["x"]))
            if len(terms) > 1:
                named = {f"train/{name}": term.detach() for name, term in terms.items()}
                self.log_dict(named, batch_size=len(batch["x"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int = 0, dataloader_idx: int = 0) -> None:
        """Log the errors on validation data."""
        if self._shown is None:
            self._shown = {name: batch[name][:1].detach().clone() for name in ("x", "y")}
        self._evaluate("val", batch, dataloader_idx)

    def test_step(self, batch: Batch, batch_idx: int = 0, dataloader_idx: int = 0) -> None:
        """Log the errors on test data."""
        self._evaluate("test", batch, dataloader_idx)

    # ------------------------------------------------------------------ private

    def _relative_residual(self, fields: Tensor, predicted: Tensor) -> Tensor:
        residual = getattr(self._datamodule, "residual", None)
        if residual is None:
            raise RuntimeError("the physics term needs the datamodule's residual: train by a Trainer with one")
        scale = residual(fields, torch.zeros_like(predicted)).flatten(1).norm(dim=1)
        return (residual(fields, predicted).flatten(1).norm(dim=1) / scale).mean()

    def _evaluate(self, part: str, batch: Batch, dataloader_idx: int) -> None:
        name = self._loader_name(part, dataloader_idx)
        if name == "rollout":
            self._log(part, batch, self._rollout_errors(batch))
            return
        predicted, reference = self(batch["x"]), batch["y"]
        space = reference.ndim - 2
        vrmse = variance_scaled_errors(predicted, reference, spatial_dims=space).mean()
        rel_l2 = relative_l2_errors(predicted, reference).mean()
        if dataloader_idx > 0:
            self._log(part, batch, {f"rel_l2_at_{name}": rel_l2, f"vrmse_at_{name}": vrmse})
            return
        errors = self.errors(predicted, reference)
        logged = {"loss": errors.square().mean(), "rel_l2": rel_l2, "vrmse": vrmse}
        logged |= {"rel_h1": errors.mean()} if self.loss == "h1" else {}
        logged |= {"residual": self._relative_residual(batch["x"], predicted)} if self.physics_weight > 0 else {}
        bands = spectral_band_errors(predicted, reference, spatial_dims=space).flatten(0, 1).mean(dim=0)
        logged |= dict(zip(("band_low", "band_mid", "band_high"), bands, strict=True))
        self._log(part, batch, logged)

    def _rollout_errors(self, batch: Batch) -> dict[str, Tensor]:
        trajectory = batch["trajectory"]
        space = batch["y"].ndim - 2
        channels = batch["y"].shape[1]
        num_steps = trajectory.shape[1] // channels if trajectory.ndim == space + 2 else trajectory.shape[1]
        predicted = rollout(self, batch["x"], num_steps)
        reference = trajectory.reshape(predicted.shape)
        errors = variance_scaled_errors(predicted, reference, spatial_dims=space).mean(dim=(0, 2))
        lost = 1 - predicted.isfinite().flatten(1).all(dim=1).double().mean()
        each = {f"rollout_vrmse_{step}": error for step, error in enumerate(errors, start=1)}
        return {**each, "rollout_vrmse": errors.mean(), "rollout_nonfinite": lost}

    def _log(self, part: str, batch: Batch, values: Mapping[str, Tensor]) -> None:
        shown = ("loss", "rel_l2")
        for name, value in values.items():
            self.log(
                f"{part}/{name}",
                value.float(),
                prog_bar=name in shown,
                batch_size=len(batch["x"]),
                on_epoch=True,
                add_dataloader_idx=False,
                sync_dist=True,
            )

    def _loader_name(self, part: str, dataloader_idx: int) -> str:
        names = getattr(self._datamodule, "dataloader_names", None)
        return str(names(part)[dataloader_idx]) if callable(names) else str(dataloader_idx)
