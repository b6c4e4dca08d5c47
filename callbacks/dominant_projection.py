"""Training within the dominant subspace, or without it: the eigenvectors that a projected optimizer needs."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import lightning as L
from torch import Tensor

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.product_time import seconds_of_product
from lightning_regimes.curvature import HessianOperator, dominant_alignment, eigsh
from lightning_regimes.optim import ProjectedOptimizer
from lightning_regimes.probe import LossProbe


class DominantProjection(Diagnostic):
    r"""Hands the Hessian's dominant eigenvectors to a :class:`~lightning_regimes.optim.ProjectedOptimizer`.

    This callback changes the training, on purpose. It recomputes the top k eigenvectors :math:`V` as training goes
    on, and follows how far the full gradient g lies in them,

    .. math:: \chi = \|V^T g\| / \|g\|.

    Once the moving average of χ reaches ``threshold``, or from ``switch_step`` on, the optimizer projects its updates:
    Dom-SGD keeps what lies within the subspace, Bulk-SGD what lies outside. The switch is final.

    Args:
        k: number of dominant eigenvectors; the number of classes is usual.
        every_n_steps: optimizer steps after which the eigenvectors are computed again.
        threshold: average of χ at which projection begins. The average starts from zero, so that the short alignment
            which many networks show at the start does not count.
        decay: of the average, from one measurement to the next.
        switch_step: project from this optimizer step on, in place of ``threshold``.
        tol: relative residual at which the eigenvectors count as converged.
        num_batches: how many of the first training batches loss, gradient and Hessian are taken on; all of an epoch by
            default. They are copied and kept.
        on_error: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`; raises by default, since a
            training without its eigenvectors is not the training that was asked for.
        options: ``loss``, ``parameters``, ``mode`` and ``double_precision`` as for
            :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.

    Raises:
        ValueError: an option is out of range, or no optimizer of the training is a ``ProjectedOptimizer``.

    References:
        M. Song, K. Ahn, C. Yun, Does SGD really happen in tiny subspaces?, ICLR 2025, arXiv:2405.16002.
    """

    name: ClassVar[str] = "projection"

    def __init__(
        self,
        k: int = 10,
        *,
        every_n_steps: int = 1,
        threshold: float = 0.95,
        decay: float = 0.9,
        switch_step: int | None = None,
        tol: float = 1e-2,
        num_batches: int | None = None,
        on_error: Any = "raise",
        **options: Any,
    ) -> None:
        if k < 1:
            raise ValueError(f"`k` is at least 1, got {k}")
        for option, value in (("threshold", threshold), ("tol", tol)):
            if not 0 < value < 1:
                raise ValueError(f"`{option}` lies between 0 and 1, got {value}")
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` is at least 0 and below 1, got {decay}")
        if switch_step is not None and switch_step < 0:
            raise ValueError(f"`switch_step` is not negative, got {switch_step}")
        self.k = k
        self.threshold = threshold
        self.decay = decay
        self.switch_step = switch_step
        self.tol = tol
        self._all_batches = num_batches is None
        super().__init__(
            every_n_steps=every_n_steps, at_start=True, num_batches=num_batches or 1, on_error=on_error, **options
        )

    def reset(self) -> None:
        """Forget everything about a training."""
        super().reset()
        self._average = 0.0
        self._is_active = False
        self._parameters: dict[str, Tensor] = {}

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Require one projected optimizer, and more parameters than eigenvectors."""
        _projected_optimizer(trainer)
        if self.k >= num_parameters:
            raise ValueError(f"`k`={self.k} leaves no bulk among {num_parameters} parameters; lower `k`")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Find out how many batches an epoch has, and what the rows of the eigenvectors stand for."""
        if self._all_batches:
            # Not earlier: only now does the trainer know.
            if math.isinf(trainer.num_training_batches):
                raise ValueError("an epoch without an end has no last batch; set `num_batches` of DominantProjection")
            self.batches.num_batches = int(trainer.num_training_batches)
        # While a probe looks, the module holds the probe's own leaves.
        self._parameters = dict(pl_module.named_parameters())
        super().on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Compute the eigenvectors for the next step if it is time, on nothing less than all batches."""
        if self.batches.is_complete:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def expected_units(self) -> int:
        """Matrix-vector products for the eigenvectors, the gradient and the graph."""
        return 14 + 3 * self.k

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Return the time of a product."""
        return seconds_of_product(probe)

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Compute the eigenvectors, and hand them over once it is time to project."""
        gradient = probe.gradient()
        with HessianOperator(probe) as operator:
            # The gradient, where the search starts by default, lies within the subspace as well as old eigenvectors do.
            pairs = eigsh(operator, self.k, tol=self.tol)
            num_matvecs = operator.num_matvecs
        chi = math.sqrt(dominant_alignment(gradient, pairs.vectors))
        self._average = self.decay * self._average + (1 - self.decay) * chi
        if self.switch_step is None:
            self._is_active |= self._average >= self.threshold
        else:
            self._is_active |= trainer.global_step >= self.switch_step
        optimizer = _projected_optimizer(trainer)
        if self._is_active:
            optimizer.set_subspace(pairs.vectors, [self._parameters[name] for name in probe.parameters])
        return Measurement(
            scalars={
                "projection/train_loss": probe.loss().item(),
                "projection/chi": chi,
                "projection/chi_average": self._average,
                "projection/active": float(self._is_active),
                "projection/lambda_1": pairs.values[0].item(),
                "projection/lambda_k": pairs.values[-1].item(),
                "projection/converged": float(pairs.converged),
                "projection/num_matvecs": num_matvecs,
            },
            context={"k": self.k, "keep": optimizer.keep, "loss_source": probe.loss_source, "mode": self.mode},
        )

    def state_dict(self) -> dict[str, Any]:
        """The schedule, the average and whether updates are projected; the optimizer keeps the eigenvectors."""
        return super().state_dict() | {"chi_average": self._average, "is_active": self._is_active}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        super().load_state_dict(state_dict)
        self._average = state_dict["chi_average"]
        self._is_active = state_dict["is_active"]


def _projected_optimizer(trainer: L.Trainer) -> ProjectedOptimizer:
    found = [optimizer for optimizer in trainer.optimizers if isinstance(optimizer, ProjectedOptimizer)]
    if len(found) != 1:
        names = ", ".join(type(optimizer).__name__ for optimizer in trainer.optimizers) or "none"
        raise ValueError(
            f"DominantProjection needs one ProjectedOptimizer among the optimizers of the training, got {names}; "
            "return ProjectedOptimizer(optimizer) from `configure_optimizers`, or use ProjectedSGDFactory"
        )
    return found[0]
