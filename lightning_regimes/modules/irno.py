"""Iterative refinement of a neural operator's predictions as a LightningModule."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightning_regimes.metrics.vrmse import variance_scaled_errors
from lightning_regimes.modules.base_operator import as_base_class_path, load_base
from lightning_regimes.modules.derivatives_enabled import derivatives_enabled
from lightning_regimes.modules.field_module import Batch, FieldModule
from lightning_regimes.modules.logged_steps import is_logged_step
from lightning_regimes.modules.neural_operator import NeuralOperator
from lightning_regimes.modules.operator_checks import check_refinement
from lightning_regimes.modules.refinement import random_number, refine_until_settled, refinements
from lightning_regimes.modules.refinement_curve import RefinementCurve, RefinementSums, refinement_curve
from lightning_regimes.modules.refinement_loss import RefinementLoss
from lightning_regimes.modules.spectral_loss import SpectralKind
from lightning_regimes.modules.stored_configuration import as_class_path
from lightning_regimes.modules.stored_operator import (
    as_operator_class_path,
    build_operator,
    leave_out_operator_metadata,
)
from lightning_regimes.networks import RefinementUNet
from lightning_regimes.optim import MuonFactory, OptimizerFactory

# Samples whose Jacobian is looked at, and that pictures are drawn of.
_NUM_SHOWN = 8


class IRNO(FieldModule):
    r"""A frozen operator T whose prediction one network Φ corrects K times.

    .. math:: h_0 = T(x), \qquad h_{k + 1} = h_k + \alpha\,\Phi([x; h_k])

    Φ is trained through all K steps, on fields scaled by the datamodule's normalizers, by the :class:`RefinementLoss`:
    the errors of all steps, once more with weights that rise with the wavenumber and do so more steeply at later steps,
    and a term that makes the truth a fixed point. Small fixed-point terms fit K steps best and drift away after them;
    large ones, and a random number of steps in each batch, keep what was gained.

    Logged are ``train/loss`` and its terms ``train/data``, ``train/spectral``, ``train/fixed_point``; the count
    ``train/nonfinite_batches`` of batches whose loss wasn't finite, which are left out with a warning; and for "val"
    and "test", with VRMSE as in :func:`variance_scaled_errors`:

    - ``vrmse`` after K steps, ``vrmse_base``, ``vrmse_best`` at ``best_step``, ``vrmse_2k``, ``vrmse_3k``, and
      ``vrmse_adaptive`` with ``adaptive_steps``, their mean number, if there is a ``tolerance``;
    - ``step_vrmse/k`` and ``step_low/k``, ``step_mid/k``, ``step_high/k`` (mean squared error in bands of the
      wavenumber over that of the base) for k = 0, …, 3K;
    - ``contraction_rate``, the growth of small changes of :math:`h_K` in a step, ``contraction_norm``, its bound, and
      ``error_floor``, :math:`\alpha \|\Phi([x; y])\| / (1 - q)` with that norm q at the truth, where it is below 1;
    - ``nonfinite_samples``, the part of samples that some step made not finite. They count in every mean.

    Args:
        base: T, any network or LightningModule from fields to fields in their own units.
        refinement: Φ; by default a U-Net for one input and one output channel. It takes the channels of T's input and
            output together. Both can also be given by ``class_path`` and ``init_args``.
        base_checkpoint: weights of ``base``, or without that, the checkpoint of a :class:`NeuralOperator`; or a
            directory with one.
        num_steps: K.
        step_size: α.
        spectral_loss: "none", "amplitude" or "complex".
        spectral_weight: :math:`\beta_s`.
        spectral_exponents: :math:`\lambda_1` and :math:`\lambda_K`.
        fixed_point_weight: β.
        random_steps: draw K from these two numbers and all between, for each batch of the training.
        tolerance: let predictions stop when updates are this small relative to the field, or grow; by default all take
            K steps.
        optimizer: by default Muon with rate 0.02 for the kernels of convolutions and all other matrices, AdamW with
            rate 5e-3 for the rest, and weight decay 1e-5.
        warmup: the part of all steps in which the learning rate rises before it falls along a cosine; None for no
            schedule but the optimizer's own.
        min_lr_ratio: the part of the learning rate that is left in the end.
        seed: of the random numbers of steps.

    Raises:
        ValueError: an argument is out of its range, or the data doesn't fit the networks.
        FileNotFoundError: there is no checkpoint.

    References:
        Iterative Refinement Neural Operator, arXiv:2605.24041.
    """

    num_nonfinite_batches: Tensor

    def __init__(
        self,
        base: dict[str, Any] | nn.Module | None = None,
        refinement: dict[str, Any] | nn.Module | None = None,
        *,
        base_checkpoint: str | Path | None = None,
        num_steps: int = 4,
        step_size: float = 0.25,
        spectral_loss: SpectralKind = "complex",
        spectral_weight: float = 1.0,
        spectral_exponents: tuple[float, float] = (1.0, 2.0),
        fixed_point_weight: float = 1.0,
        random_steps: tuple[int, int] | None = (2, 8),
        tolerance: float | None = None,
        optimizer: OptimizerFactory | None = None,
        warmup: float | None = 0.05,
        min_lr_ratio: float = 0.0,
        seed: int = 0,
    ) -> None:
        factory = optimizer or MuonFactory(lr=2e-2, adamw_lr=5e-3, weight_decay=1e-5)
        super().__init__(factory, warmup=warmup, min_lr_ratio=min_lr_ratio)
        if num_steps < 1:
            raise ValueError(f"`num_steps` is at least 1, got {num_steps}")
        if not step_size > 0:
            raise ValueError(f"`step_size` is positive, got {step_size}")
        if random_steps is not None and not 1 <= random_steps[0] <= random_steps[1]:
            raise ValueError(f"`random_steps` are two ascending numbers from 1 on, got {random_steps}")
        if tolerance is not None and not tolerance > 0:
            raise ValueError(f"`tolerance` is positive or None, got {tolerance}")
        self.base = load_base(None if base is None else build_operator(base), base_checkpoint)
        self.refinement = RefinementUNet() if refinement is None else build_operator(refinement)
        self.num_steps, self.step_size = num_steps, step_size
        self.loss = RefinementLoss(
            spectral_loss=spectral_loss,
            spectral_weight=spectral_weight,
            spectral_exponents=spectral_exponents,
            fixed_point_weight=fixed_point_weight,
        )
        self.random_steps = random_steps
        self.tolerance = tolerance
        self.seed = seed
        if isinstance(self.base, NeuralOperator):
            self.input_scaling.copy(self.base.input_scaling)
            self.output_scaling.copy(self.base.output_scaling)
        self.register_buffer("num_nonfinite_batches", torch.tensor(0))
        self._sums: RefinementSums | None = None
        leave_out_operator_metadata(self)
        configuration = {
            "base": as_base_class_path(self.base),
            "refinement": as_operator_class_path(self.refinement),
            "num_steps": num_steps,
            "step_size": step_size,
            "spectral_loss": spectral_loss,
            "spectral_weight": spectral_weight,
            "spectral_exponents": list(spectral_exponents),
            "fixed_point_weight": fixed_point_weight,
            # Not left out where it's None, which isn't the default.
            "random_steps": None if random_steps is None else list(random_steps),
            "tolerance": tolerance,
            "optimizer": as_class_path(self.optimizer_factory),
            "warmup": warmup,
            "min_lr_ratio": min_lr_ratio,
            "seed": seed,
        }
        optional = ("base", "refinement", "optimizer")
        given = {name: value for name, value in configuration.items() if name not in optional or value is not None}
        self.save_hyperparameters({**given, "_instantiator": "lightning.pytorch.cli.instantiate_module"})

    def train(self, mode: bool = True) -> IRNO:
        """Set the mode of the refinement; the base stays in evaluation mode."""
        super().train(mode)
        self.base.eval()
        return self

    # ------------------------------------------------------------------ predictions and their loss

    def forward(self, fields: Tensor, *, num_steps: int | None = None) -> Tensor:
        """Return the refined prediction, (B, C′, n₁, …), in the fields' own units.

        Args:
            fields: x, (B, C, n₁, …).
            num_steps: by default K, or as many as the ``tolerance`` asks for, at most 3K.
        """
        inputs, state = self._start(fields)
        if num_steps is None and self.tolerance is not None:
            return self.output_scaling.denormalize(self._settle(inputs, state).fields)
        for refined in self._iterates(inputs, state, self.num_steps if num_steps is None else num_steps):
            state = refined
        return self.output_scaling.denormalize(state)

    def diagnostic_loss(self, batch: Batch) -> Tensor:
        """Return the training loss of K steps."""
        return torch.stack(list(self._terms(batch, self.num_steps).values())).sum()

    def loss_components(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms that :meth:`diagnostic_loss` is the sum of, by name, weights included."""
        return self._terms(batch, self.num_steps)

    def predict(self, fields: Tensor) -> Tensor:
        """Return the predictions of K steps."""
        predicted: Tensor = self(fields, num_steps=self.num_steps)
        return predicted

    def errors(self, predicted: Tensor, reference: Tensor) -> Tensor:
        """Return the VRMSE of each sample and channel, (B, C′)."""
        return variance_scaled_errors(predicted, reference, spatial_dims=reference.ndim - 2)

    @property
    def trained_network(self) -> nn.Module:
        """The network Φ."""
        return self.refinement

    def refinement_curve(self) -> RefinementCurve:
        """Return what 3K steps do to some samples of the validation data.

        Raises:
            RuntimeError: no validation data has been seen yet.
        """
        if self._shown is None:
            raise RuntimeError("the curve of a refinement takes validation data, and none has been seen yet")
        fields, reference = self._like_network(self._shown).values()
        # Evaluations come without derivatives, and products with the Jacobian need them.
        with derivatives_enabled():
            with torch.no_grad():
                inputs, start = self._start(fields.clone())
            return refinement_curve(
                self.refinement,
                inputs,
                start,
                self.output_scaling.normalize(reference.clone()),
                step_size=self.step_size,
                num_steps=self.num_steps,
            )

    # ------------------------------------------------------------------ training and evaluation

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor | None:
        """Return the loss and log it with its terms; None, with a warning, where it isn't finite."""
        terms = self._terms(batch, self._drawn_steps())
        loss = torch.stack(list(terms.values())).sum()
        if not bool(loss.isfinite()):
            self.num_nonfinite_batches += 1
            count = int(self.num_nonfinite_batches)
            warnings.warn(
                f"the loss isn't finite in {count} batch{'es' if count > 1 else ''} so far, which "
                f"{'are' if count > 1 else 'is'} left out: lower `step_size` or the learning rate, or clip gradients",
                RuntimeWarning,
                stacklevel=2,
            )
            self.log("train/nonfinite_batches", self.num_nonfinite_batches.float(), batch_size=len(batch["x"]))
            return None
        if is_logged_step(self):
            logged = {f"train/{name}": term.detach() for name, term in terms.items()}
            logged["train/nonfinite_batches"] = self.num_nonfinite_batches.float()
            self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["x"]))
            self.log_dict(logged, batch_size=len(batch["x"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int = 0, dataloader_idx: int = 0) -> None:
        """Measure the errors of all steps."""
        if dataloader_idx == 0:
            self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the errors of all steps."""
        self._log_errors("val")

    def test_step(self, batch: Batch, batch_idx: int = 0, dataloader_idx: int = 0) -> None:
        """Measure the errors of all steps."""
        if dataloader_idx == 0:
            self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Log the errors of all steps."""
        self._log_errors("test")

    # ------------------------------------------------------------------ private

    def _start(self, fields: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scaled input, and the scaled prediction of the base."""
        with torch.no_grad():
            predicted = self.base(fields)
        if fields.shape not in self._checked:
            check_refinement(self.refinement, self.base, fields, predicted)
            self._checked.add(fields.shape)
        return self.input_scaling.normalize(fields), self.output_scaling.normalize(predicted)

    def _iterates(self, inputs: Tensor, start: Tensor, num_steps: int) -> Any:
        return refinements(self.refinement, inputs, start, step_size=self.step_size, num_steps=num_steps)

    def _settle(self, inputs: Tensor, start: Tensor) -> Any:
        assert self.tolerance is not None
        return refine_until_settled(
            self.refinement,
            inputs,
            start,
            step_size=self.step_size,
            max_steps=3 * self.num_steps,
            tolerance=self.tolerance,
        )

    def _terms(self, batch: Batch, num_steps: int) -> dict[str, Tensor]:
        inputs, start = self._start(batch["x"])
        if start.shape != batch["y"].shape:
            raise ValueError(
                f"the base returned fields of shape {tuple(start.shape)} for targets of shape "
                f"{tuple(batch['y'].shape)}: it was trained on other data"
            )
        reference = self.output_scaling.normalize(batch["y"])
        return self.loss.terms(self.refinement, inputs, start, reference, step_size=self.step_size, num_steps=num_steps)

    def _drawn_steps(self) -> int:
        if self.random_steps is None:
            return self.num_steps
        return random_number(self.random_steps, seed=self.seed, step=self.global_step)

    def _evaluate(self, batch: Batch) -> None:
        if self._shown is None:
            self._shown = {name: batch[name][:_NUM_SHOWN].detach().clone() for name in ("x", "y")}
        if self._sums is None:
            self._sums = RefinementSums()
        inputs, start = self._start(batch["x"])
        iterates = [start, *self._iterates(inputs, start, 3 * self.num_steps)]
        self._sums.add([self.output_scaling.denormalize(state) for state in iterates], batch["y"])
        if self.tolerance is not None:
            settled = self._settle(inputs, start)
            errors = self.errors(self.output_scaling.denormalize(settled.fields), batch["y"])
            self._sums.add_adaptive(errors.mean(dim=1), settled.num_steps)

    def _log_errors(self, part: str) -> None:
        if self._sums is None:
            return
        values = self._sums.reduced(self.trainer.strategy).values(self.num_steps)
        self._sums = None
        curve = self.refinement_curve()
        values |= {"contraction_rate": curve.contraction_rate, "contraction_norm": curve.contraction_norm}
        if curve.error_floor < float("inf"):
            values["error_floor"] = curve.error_floor
        for name, value in values.items():
            self.log(f"{part}/{name}", value, prog_bar=name in ("vrmse", "vrmse_base"), sync_dist=True)
