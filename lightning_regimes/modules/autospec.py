"""Spectral algorithms learned from spectra alone, as a LightningModule."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_regimes.modules.filter_task import FilterTask
from lightning_regimes.modules.function_task import FunctionTask
from lightning_regimes.modules.solve_task import SolveTask
from lightning_regimes.modules.spectral_task import SpectralTask
from lightning_regimes.optim import AdamFactory, OptimizerFactory, cosine_with_warmup
from lightning_regimes.spectral.matrix_functions import FunctionName, MatrixFunction
from lightning_regimes.spectral.recurrence_engine import Base
from lightning_regimes.spectral.spectrum_batch import SpectrumBatch

Task = Literal["solve", "function", "filter"]


class AutoSpec(L.LightningModule):
    """An engine that reads a probe of an operator and writes the coefficients of a polynomial of it.

    It is trained on diagonal operators, which are nothing but their eigenvalues, and by the task itself, without
    solutions to imitate; the polynomials then serve operators of any size and origin. Before training it is a classical
    rule.

    ``task="solve"`` preconditions conjugate gradients (:class:`SolveTask`), ``"function"`` is close to a function of
    the operator (:class:`FunctionTask`), and ``"filter"`` separates its largest eigenvalues from the others
    (:class:`FilterTask`).

    Logged are ``train/loss``; on spectra ``val/loss``, ``val/base_loss``, that of the classical rule, and
    ``val/skipped_steps``, how many steps were left out since their gradient was not finite; and for real operators the
    means of what the task measures, geometric where all are positive, and each with the name of the operator.

    Args:
        task: what the polynomial is for.
        degree: of the polynomial; default 8, and 32 for ``"function"``.
        probe_size: Ritz values of a probe, as many as the datamodule's; ``"function"`` needs more, twice its degree.
        width: of the engine's two hidden layers.
        base: the classical rule that ``"solve"`` starts from, ``"clipped"`` or ``"smoothing"``.
        steps: iterations that ``"solve"`` unrolls.
        function: of ``"function"``: ``"inverse_sqrt"``, ``"sqrt"``, ``"inverse"``, ``"power"`` or ``"exp"``, see
            :class:`MatrixFunction`.
        exponent: of ``"power"`` or ``"exp"``.
        seed: of the engine's weights, and of what the loss draws.
        optimizer: by default Adam with rate 3e-3. One without a schedule follows half a cosine to zero, which ends
            with the training.

    Raises:
        ValueError: an unknown task, or a number that is out of range.

    References:
        Z. Liu, O. Balabanov, Y. Yang, M. Mahoney, Learning to Discover Iterative Spectral Algorithms,
        arXiv:2602.09530. Losses, network and spectra are of this package, in the manner of that paper.
    """

    def __init__(
        self,
        task: Task = "solve",
        *,
        degree: int | None = None,
        probe_size: int = 10,
        width: int = 96,
        base: Base = "clipped",
        steps: int = 40,
        function: FunctionName = "inverse_sqrt",
        exponent: float = 1.0,
        seed: int = 0,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        super().__init__()
        if task not in get_args(Task):
            raise ValueError(f"`task` is one of {', '.join(get_args(Task))}, got {task!r}")
        self.save_hyperparameters(ignore=["optimizer"])
        self.seed = seed
        sizes = (32 if task == "function" else 8) if degree is None else degree, probe_size, width
        self._task: SpectralTask
        if task == "solve":
            self._task = SolveTask(*sizes, base=base, steps=steps, seed=seed)
        elif task == "function":
            self._task = FunctionTask(MatrixFunction(function, exponent), *sizes, seed=seed)
        else:
            self._task = FilterTask(*sizes, seed=seed)
        #: The network that writes the coefficients.
        self.engine = self._task.engine
        self.optimizer_factory = optimizer or AdamFactory(lr=3e-3)
        self.register_buffer("num_skipped", torch.zeros((), dtype=torch.long))
        self._measured: dict[str, list[float]] = {}

    num_skipped: Tensor

    def forward(self, *arguments: Any) -> Any:
        """Return the polynomials that the engine writes for a probe, or a batch of them."""
        return self.engine(*arguments)

    def training_step(self, batch: SpectrumBatch, batch_idx: int = 0) -> Tensor:
        """Return and log the loss of the task; what it draws follows from the number of the step."""
        generator = torch.Generator().manual_seed(self.seed + 104_729 * self.global_step)
        loss = self._task.loss(self.engine, batch, generator)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch.upper))
        return loss

    def diagnostic_loss(self, batch: SpectrumBatch) -> Tensor:
        """Return the loss of validation, which draws nothing."""
        return self._task.loss(self.engine, batch)

    def trivial_loss(self, batch: SpectrumBatch) -> Tensor:
        """Return the loss of doing without."""
        self._task.base.to(self.device)
        return self._task.trivial_loss(batch)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Leave out a step whose gradient is not finite, and count it."""
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        if all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            return
        self.num_skipped += 1
        # An optimizer passes over parameters without a gradient.
        for parameter in self.parameters():
            parameter.grad = None

    def validation_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> None:
        """Log the losses on spectra, or measure on a real operator."""
        self._evaluate("val", batch)

    def test_step(self, batch: Any, batch_idx: int = 0, dataloader_idx: int = 0) -> None:
        """Log the losses on spectra, or measure on a real operator."""
        self._evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the means over the real operators."""
        self._log_measured("val")

    def on_test_epoch_end(self) -> None:
        """Log the means over the real operators."""
        self._log_measured("test")

    def configure_optimizers(self) -> Any:
        """Return what the optimizer factory makes of this module, with a cosine where it brings no schedule."""
        made = self.optimizer_factory(self)
        if not isinstance(made, Optimizer):
            return made
        total_steps = self.trainer.estimated_stepping_batches
        if not math.isfinite(total_steps):
            return made
        schedule = cosine_with_warmup(made, total_steps=int(total_steps), warmup=0.0, min_lr_ratio=0.0)
        return {"optimizer": made, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _evaluate(self, stage: str, batch: Any) -> None:
        if isinstance(batch, SpectrumBatch):
            options: dict[str, Any] = {"batch_size": len(batch.upper), "add_dataloader_idx": False}
            self._task.base.to(self.device)
            self.log(f"{stage}/loss", self._task.loss(self.engine, batch), prog_bar=True, **options)
            self.log(f"{stage}/base_loss", self._task.loss(self._task.base, batch), **options)
            self.log(f"{stage}/skipped_steps", self.num_skipped.double(), **options)
            return
        for quantity, value in self._task.measure(batch.operator, batch.vector, batch.seed).items():
            self._measured.setdefault(quantity, []).append(value)
            self.log(f"{stage}/{quantity}/{batch.name}", value, batch_size=1, add_dataloader_idx=False)

    def _log_measured(self, stage: str) -> None:
        for quantity, values in self._measured.items():
            found = torch.tensor(values, dtype=torch.float64)
            mean = found.log().mean().exp() if bool((found > 0).all()) else found.mean()
            self.log(f"{stage}/{quantity}", mean, prog_bar=quantity == "reduction")
        self._measured = {}
