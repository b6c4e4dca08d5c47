"""Where the gradient and the updates point in the Hessian's spectrum, and what the step size does about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.product_time import seconds_of_product
from lightning_regimes.callbacks.shared_eigenpairs import EigenpairsNeeded, dominant_eigenpairs, forget_eigenpairs
from lightning_regimes.curvature import (
    AlignmentReport,
    Eigenpairs,
    HessianOperator,
    alignment_report,
    dominant_alignment,
    predict_update,
    subspace_overlap,
)
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# θ above which the gradient counts as aligned.
_HIGH = 0.5


@dataclass
class _Before:
    """The point before a step, kept until the step has been taken."""

    step: int
    probe: LossProbe
    operator: HessianOperator
    eigenpairs: Eigenpairs
    gradient: Tensor
    loss: float


class GradientAlignment(Diagnostic):
    r"""Records the share θ of gradient and update in the dominant eigenvectors, and the step sizes that matter.

    At each measurement, on the captured batches: θ of the full gradient and of the single batches, the adaptive
    critical step size :math:`\eta^*` below which SGD turns away from the dominant eigenvectors, and the interval
    between the step sizes at which a dominant and a bulk step stop lowering the loss; the noise is that of the single
    batches. After the next optimizer step, what the quadratic model says of the update and of its dominant and bulk
    parts, whatever the optimizer, beside what the loss does. Alignment is *suspicious* where the gradient is mostly
    dominant while dominant steps raise the loss. Beside a ``HessianSpectrum`` with the same schedule, ``num_batches``,
    ``loss``, ``parameters``, ``mode`` and precision, one search for eigenvectors serves both.

    A module may know more. Where it has a ``stochastic_loss(batch)``, the gradients of batches are of that, and the
    full gradient is of the probe's loss. What its ``theoretical_alignment(step_size)`` returns is recorded beside what
    is measured: ``theta``, where SGD settles, and ``critical_step_size``. It is asked for plain SGD only.

    Args:
        k: number of dominant eigenvectors.
        tol: relative residual at which they count as converged.
        num_batches: how many batches the full gradient and the noise are taken from, at least 2.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.

    References:
        Deng et al., Suspicious Alignment of SGD, arXiv:2601.11789; Song, Ahn, Yun, Does SGD really happen in tiny
        subspaces?, arXiv:2405.16002 (χ, the square root of θ).
    """

    name: ClassVar[str] = "alignment"

    def __init__(self, k: int = 5, *, tol: float = 1e-3, num_batches: int = 4, **options: Any) -> None:
        if k < 1:
            raise ValueError(f"`k` is at least 1, got {k}")
        if not 0 < tol < 1:
            raise ValueError(f"`tol` lies between 0 and 1, got {tol}")
        if num_batches < 2:
            raise ValueError(f"`num_batches` is at least 2, which a noise takes, got {num_batches}")
        self.k = k
        self.tol = tol
        super().__init__(num_batches=num_batches, **options)

    def reset(self) -> None:
        """Forget everything about a training."""
        super().reset()
        self._before: _Before | None = None
        self._vectors: Tensor | None = None
        self._history: list[tuple[int, float]] = []

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Require more parameters than dominant eigenvectors."""
        if self.k >= num_parameters:
            raise ValueError(f"`k`={self.k} leaves no bulk among {num_parameters} parameters; lower `k`")

    @property
    def eigenpairs_needed(self) -> EigenpairsNeeded:
        """What other diagnostics may search for in passing."""
        return EigenpairsNeeded(self.k, self.tol)

    def expected_units(self) -> int:
        """Matrix-vector products for the eigenvectors, the gradient, the noise, the update and the graph."""
        return 16 + 3 * self.k + self.num_batches

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Return the time of a product."""
        return seconds_of_product(probe)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let go of the eigenpairs that were shared at the last step."""
        forget_eigenpairs(trainer, unless_current=True)
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look back at the step just taken if the point before it was measured; measure if it is time."""
        if self._before is not None and trainer.global_step > self._before.step:
            self.follow_up(trainer, pl_module, self._look_back)
            self._before = None
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let go of the last point."""
        super().on_train_end(trainer, pl_module)
        self._before = None

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of the last eigenpairs."""
        super().teardown(trainer, pl_module, stage)
        forget_eigenpairs(trainer)

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Measure the present point, and keep it until the next step has been taken."""
        operator = HessianOperator(probe)
        pairs, searched_by = dominant_eigenpairs(self, trainer, operator)
        gradient, gradients, noise = _gradients(probe, pl_module)
        report = alignment_report(operator, pairs, gradient, noise=noise)
        self._before = _Before(trainer.global_step, probe, operator, pairs, gradient, probe.loss().item())
        self._history.append((trainer.global_step, report.theta))
        step_size = _step_size(self.optimizers(trainer))
        scalars = {
            "alignment/theta": report.theta,
            "alignment/chi": report.chi,
            "alignment/chance": report.chance,
            "alignment/theta_batch": sum(
                weight * dominant_alignment(column, pairs.vectors)
                for weight, column in zip(probe.all_weights, gradients.unbind(1), strict=True)
            ),
            "alignment/critical_step_size": report.critical_step_size,
            "alignment/critical_loss_step_size_dominant": report.dominant.critical_loss_step_size,
            "alignment/critical_loss_step_size_bulk": report.bulk.critical_loss_step_size,
            "alignment/num_matvecs": operator.num_matvecs,
        }
        if step_size is not None:
            scalars |= {
                "alignment/step_size": step_size,
                "alignment/suspicious": float(_is_suspicious(report, step_size)),
            }
            theory = getattr(pl_module, "theoretical_alignment", None)
            if callable(theory):
                scalars |= {f"alignment/theory_{name}": float(value) for name, value in theory(step_size).items()}
        if self._vectors is not None and self._vectors.shape == pairs.vectors.shape:
            scalars["alignment/overlap"] = subspace_overlap(self._vectors, pairs.vectors)
        self._vectors = pairs.vectors
        history, steady = list(self._history), scalars.get("alignment/theory_theta")
        return Measurement(
            scalars=scalars,
            text={"alignment/phase": _phase(history)},
            arrays={"alignment/shares": report.shares.cpu().numpy()},
            context={
                "k": self.k,
                "loss_source": probe.loss_source,
                "mode": self.mode,
                "converged": pairs.converged,
                "eigenpairs": searched_by,
            },
            figures={"alignment/history": lambda: draw_history(history, steady)},
        )

    def state_dict(self) -> dict[str, Any]:
        """The schedule and the alignments so far."""
        return super().state_dict() | {"alignment_history": list(self._history)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        super().load_state_dict(state_dict)
        self._history = [(step, theta) for step, theta in state_dict["alignment_history"]]

    def _look_back(self, pl_module: L.LightningModule) -> Measurement:
        before = self._before
        if before is None:
            return Measurement()
        after = self.probe(pl_module)
        update = after.point() - before.probe.point()
        if not bool(update.any()):  # a gradient scaler may skip a step
            return Measurement()
        prediction = predict_update(before.operator, before.eigenpairs, before.gradient, update)
        vectors = before.eigenpairs.vectors
        dominant = vectors @ (vectors.T @ update)
        point = before.probe.point()
        scalars = {
            "alignment/theta_update": dominant_alignment(update, vectors),
            "alignment/predicted_theta": prediction.theta,
            "alignment/predicted_change_dominant": prediction.dominant,
            "alignment/predicted_change_bulk": prediction.bulk,
            "alignment/realized_change": after.loss().item() - before.loss,
            "alignment/realized_change_dominant": _loss_at(before.probe, point + dominant) - before.loss,
            "alignment/realized_change_bulk": _loss_at(before.probe, point + update - dominant) - before.loss,
        }
        return Measurement(scalars=scalars, context={"measured_at_global_step": before.step})


def _loss_at(probe: LossProbe, point: Tensor) -> float:
    # Copies, since real views of complex parameters must not begin in the middle of a number.
    with probe.moved([leaf.clone() for leaf in probe.unflatten(point)]):
        return probe.loss().item()


def _gradients(probe: LossProbe, pl_module: Any) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the full gradient, (n,), those of single batches, (n, m), and the noise of these."""
    if callable(getattr(pl_module, "stochastic_loss", None)):
        noisy = probe.with_loss(lambda module, batch: module.stochastic_loss(batch))
        gradient, gradients = probe.gradient(), noisy.batch_gradients()
        return gradient, gradients, gradients - gradient[:, None]
    gradients = probe.batch_gradients()
    weights = torch.tensor(probe.all_weights, dtype=gradients.dtype, device=gradients.device)
    gradient = gradients @ weights
    noise = noise_of(gradients, gradient, probe.all_weights) if len(probe.all_weights) > 1 else None
    return gradient, gradients, noise


def noise_of(gradients: Tensor, gradient: Tensor, weights: Sequence[float]) -> Tensor:
    r"""Return the deviations of batch gradients from their weighted mean, with the variance of single gradients.

    The mean follows the batches, so that deviations from it are too small by :math:`1 - 2 w_j + \sum_k w_k^2`.
    """
    w = torch.tensor(weights, dtype=gradients.dtype, device=gradients.device)
    return (gradients - gradient[:, None]) / (1 - 2 * w + w.square().sum()).clamp(min=1e-6).sqrt()


def _step_size(optimizers: list[Any]) -> float | None:
    # Only for plain SGD is the learning rate the step that the thresholds speak of.
    if len(optimizers) != 1 or type(optimizers[0]).__name__ != "SGD":
        return None
    groups = optimizers[0].param_groups
    if any(group.get("momentum", 0.0) for group in groups):
        return None
    return float(max(group["lr"] for group in groups))


def _is_suspicious(report: AlignmentReport, step_size: float) -> bool:
    low, high = report.dominant.critical_loss_step_size, report.bulk.critical_loss_step_size
    return report.theta > _HIGH and low < step_size < high


def _phase(history: list[tuple[int, float]]) -> str:
    """``HIGH``, or while low ``DECREASING`` or ``RISING``, by the last two values."""
    if history[-1][1] > _HIGH:
        return "HIGH"
    if len(history) < 2:
        return "LOW"
    return "RISING" if history[-1][1] > history[-2][1] else "DECREASING"


def draw_history(history: list[tuple[int, float]], steady: float | None = None) -> Figure:
    """Draw θ over steps, and what theory expects it to settle at."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([step for step, _ in history], [theta for _, theta in history], marker="o", markersize=3)
    axes.axhline(_HIGH, color="0.4", linestyle="--")
    if steady is not None:
        axes.axhline(steady, color="0.1", linestyle=":")
    axes.set(xlabel="optimizer step", ylabel="θ", ylim=(0, 1), title="share of the gradient in the dominant subspace")
    return figure
