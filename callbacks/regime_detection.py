"""Which regime the training is in, on any module, while it runs."""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar

import lightning as L
import torch
from torch import Tensor

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.loss_history import LossHistory
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.probe import LossProbe
from lightning_regimes.recording import Table
from lightning_regimes.regimes import RegimeThresholds, classify, guidance, loss_trend, model_family

# Evaluations of the loss of a batch that an estimate of the error takes, as that of a physics-informed network; after
# the first one the real time is known.
_UNITS_OF_ESTIMATE = 600
# Names under which people log the training loss on validation data.
_HELDOUT_METRICS = ("val_loss", "val/loss", "valid_loss", "valid/loss", "validation_loss", "validation/loss")


class RegimeDetection(Diagnostic):
    """Labels the run well-trained, under-trained, over-trained, inconsistent or diverged, with reasons and margin.

    Numbers decide (see :func:`lightning_regimes.regimes.classify`), each from the best source there is; the record
    names the source:

    - the **training loss** on the captured batches: the module's ``plain_loss(batch)`` if it has that method, which a
      module needs whose objective is no measure of fit (an augmented Lagrangian, say), otherwise the probe's loss;
    - over a **reference loss**: the module's ``trivial_loss(batch)`` if it has that method, otherwise the loss at
      initialization on the first batch;
    - a dimensionless **error**: the module's ``reference_error()``, or the logged metric ``error_metric``;
    - without an error, an **estimate** of it, unless ``heldout_metric`` is named: the module's ``estimated_error()``,
      as that of a physics-informed network;
    - without an estimate, a **held-out loss**: the module's ``heldout_loss()``, or the logged metric
      ``heldout_metric``, or a validation loss logged under a usual name such as ``val_loss``. Its reference is that of
      the training loss, or the module's ``heldout_trivial_loss()`` where the two losses have different scales, as on
      segments and on whole trajectories.

    Args:
        error_metric: name of a logged metric that is a dimensionless error, such as an error rate or a relative norm.
        heldout_metric: name of a logged metric that is the training loss on held-out data.
        estimate_error: ask the module for an estimate of the error also where the error is known, to see both; False
            never asks.
        thresholds: where "low" ends; default :class:`~lightning_regimes.regimes.RegimeThresholds`.
        at_end: also label the finished run.
        num_batches: how many different training batches the training loss is evaluated on.
        overhead_budget: share of the training time to spend; what the hooks themselves cost comes on top of it.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.
    """

    name: ClassVar[str] = "regime"

    def __init__(
        self,
        *,
        error_metric: str | None = None,
        heldout_metric: str | None = None,
        estimate_error: bool | None = None,
        thresholds: RegimeThresholds | None = None,
        at_end: bool = True,
        num_batches: int = 4,
        overhead_budget: float = 0.01,
        **options: Any,
    ) -> None:
        self.error_metric = error_metric
        self.heldout_metric = heldout_metric
        self.estimate_error = estimate_error
        self.thresholds = thresholds or RegimeThresholds()
        super().__init__(at_end=at_end, num_batches=num_batches, overhead_budget=overhead_budget, **options)

    def reset(self) -> None:
        """Forget everything about a training."""
        super().reset()
        self._history = LossHistory()
        self._label: str | None = None
        self._initial_loss: float | None = None
        self._initial_step = 0
        self._awaits_validation = False
        self._has_waited = False
        self._units_of_estimate = 0

    def on_batch_captured(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate the loss at initialization, where it has to serve as the reference."""
        if self._initial_loss is None and not callable(getattr(pl_module, "trivial_loss", None)):
            self._initial_loss = self.probe(pl_module).loss().item()
            self._initial_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the loss of the step, and measure if the period or the budget says so."""
        loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor) and loss.numel() == 1:
            # Lightning hands over the share of the batch in an accumulated step.
            share = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            self._history.append(trainer.global_step, loss if share == 1 else loss * share)
        # After the last batch of an epoch comes the validation whose metrics are the evidence for these weights.
        self._awaits_validation = trainer.is_last_batch
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self._awaits_validation = False

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure if the period says so, or if a measurement has waited for the validation."""
        if self._has_waited:
            self._has_waited = False
            self._measure(trainer, pl_module)
        super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Label the finished run; say so if a metric that was named has never been logged."""
        super().on_train_end(trainer, pl_module)
        for name in (self.error_metric, self.heldout_metric):
            if self._enabled and name is not None and _logged(trainer, name) is None:
                self.warn(f"RegimeDetection: {_not_logged(trainer, name)}", once="evidence")

    def _measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._awaits_validation:
            self._has_waited = True
            return
        super()._measure(trainer, pl_module)

    def closing_word(self) -> str:
        """Return the last label."""
        return f"Regime: {self._label}." if self._label else ""

    def expected_units(self) -> int:
        """Training loss, trivial loss and held-out loss, on as many batches, and an estimate if there will be one."""
        return 3 * self.num_batches + self._units_of_estimate

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Evaluate the loss of one batch twice, and take the time of the second."""
        asked = self.estimate_error is None and self.error_metric is None and self.heldout_metric is None
        asked = asked and _of_the_module(pl_module, "reference_error") is None
        estimates = callable(getattr(pl_module, "estimated_error", None))
        self._units_of_estimate = _UNITS_OF_ESTIMATE if estimates and (asked or self.estimate_error) else 0
        probe.batch_loss(0)
        start = time.perf_counter()
        probe.batch_loss(0)
        return time.perf_counter() - start

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Collect the numbers and classify."""
        loss, loss_source = self._training_loss(probe, pl_module)
        reference, reference_source = self._reference_loss(probe, pl_module)
        error, error_source = self._error(trainer, pl_module)
        named_is_missing = self.error_metric is not None and error is None
        estimate = self._estimated_error(pl_module, error)
        # What was asked for is not there: the estimate is recorded, and must not take its place.
        decisive = None if named_is_missing else estimate
        heldout, heldout_source = self._heldout_loss(trainer, pl_module)
        steps, losses = self._history.arrays()
        trend = loss_trend(steps, losses)
        heldout_reference = (
            reference if heldout is None else self._heldout_reference(pl_module, heldout_source, reference)
        )
        scalars = {
            "regime/train_loss": loss,
            "regime/reference_loss": reference,
            "regime/normalized_loss": loss / reference,
            "regime/num_evaluations": probe.num_batches * (1 + (reference_source == "trivial_loss")),
        }
        scalars |= {} if error is None else {"regime/test_error": error}
        scalars |= {} if estimate is None else {"regime/estimated_error": estimate}
        if heldout is not None:
            scalars |= {"regime/heldout_loss": heldout, "regime/normalized_heldout_loss": heldout / heldout_reference}
        scalars |= {} if trend is None else {"regime/loss_trend": trend}
        context: dict[str, Any] = {
            "loss_source": loss_source,
            "reference_source": reference_source,
            "evidence_source": error_source or (heldout_source if decisive is None else "estimated_error"),
            "thresholds": {"fit": self.thresholds.fit, "error": self.thresholds.error},
        }
        arrays = {"regime/loss_history_steps": steps, "regime/loss_history": losses}
        text: dict[str, str] = {}
        if error is None and decisive is None and heldout is None and loss / reference <= self.thresholds.fit:
            context["reasons"] = [self._without_evidence(trainer)]
        else:
            report = classify(
                loss,
                reference_loss=reference,
                error=error,
                estimated_error=decisive,
                heldout_loss=heldout,
                heldout_reference_loss=heldout_reference,
                loss_trend=trend,
                thresholds=self.thresholds,
            )
            text["regime/label"] = report.label.name
            scalars |= {
                "regime/id": int(report.label),
                "regime/margin": report.margin,
                "regime/agreement": report.agreement,
                "regime/provisional": float(report.provisional),
            }
            advice = guidance(report, family=model_family(pl_module))
            context |= {"reasons": list(report.reasons), "guidance": str(advice)}
        evidence = [("training loss / reference loss", loss / reference, self.thresholds.fit)]
        evidence += [] if error is None else [("error", error, self.thresholds.error)]
        evidence += [] if estimate is None else [("estimated error", estimate, self.thresholds.error)]
        evidence += (
            []
            if heldout is None
            else [("held-out loss / reference loss", heldout / heldout_reference, self.thresholds.fit)]
        )
        rows = [(quantity, value, threshold, value <= threshold) for quantity, value, threshold in evidence]
        self._label = text.get("regime/label")
        tables = {"regime/evidence": Table(("quantity", "value", "threshold", "low"), rows)}
        return Measurement(scalars=scalars, text=text, arrays=arrays, context=context, tables=tables)

    def state_dict(self) -> dict[str, Any]:
        """The schedule, the loss history and the loss at initialization."""
        state = {"history": self._history.state_dict(), "initial_loss": self._initial_loss}
        return super().state_dict() | state | {"initial_step": self._initial_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        super().load_state_dict(state_dict)
        self._history.load_state_dict(state_dict["history"])
        self._initial_loss = state_dict["initial_loss"]
        self._initial_step = state_dict["initial_step"]

    def _training_loss(self, probe: LossProbe, pl_module: L.LightningModule) -> tuple[float, str]:
        plain_loss = getattr(pl_module, "plain_loss", None)
        if callable(plain_loss):
            return probe.average(plain_loss).item(), "plain_loss"
        return probe.loss().item(), probe.loss_source

    def _reference_loss(self, probe: LossProbe, pl_module: L.LightningModule) -> tuple[float, str]:
        trivial_loss = getattr(pl_module, "trivial_loss", None)
        if callable(trivial_loss):
            return probe.average(trivial_loss).item(), "trivial_loss"
        if self._initial_loss is None or not math.isfinite(self._initial_loss) or self._initial_loss <= 0:
            raise ValueError(
                f"the loss at initialization, {self._initial_loss}, cannot serve as the reference; give the module a "
                "method `trivial_loss(batch)` that returns the positive loss of a trivial predictor"
            )
        return self._initial_loss, f"loss at step {self._initial_step}"

    def _error(self, trainer: L.Trainer, pl_module: L.LightningModule) -> tuple[float | None, str | None]:
        if self.error_metric is not None:
            value = _logged(trainer, self.error_metric)
            return (None, None) if value is None else (value, self.error_metric)
        value = _of_the_module(pl_module, "reference_error")
        return (None, None) if value is None else (value, "reference_error")

    def _estimated_error(self, pl_module: L.LightningModule, error: float | None) -> float | None:
        by_default = error is None and self.error_metric is None and self.heldout_metric is None
        if not (by_default if self.estimate_error is None else self.estimate_error):
            return None
        try:
            return _of_the_module(pl_module, "estimated_error")
        except Exception as problem:  # of a residual or a network that is somebody's own
            self.warn(f"RegimeDetection goes on without an estimate of the error: {problem}", once="estimate")
            return None

    def _heldout_loss(self, trainer: L.Trainer, pl_module: L.LightningModule) -> tuple[float | None, str | None]:
        if self.error_metric is not None and _logged(trainer, self.error_metric) is None:
            return None, None  # what was asked for is not there; something else must not take its place
        if self.heldout_metric is None:
            value = _of_the_module(pl_module, "heldout_loss")
            if value is not None:
                return value, "heldout_loss"
        for name in _HELDOUT_METRICS if self.heldout_metric is None else (self.heldout_metric,):
            value = _logged(trainer, name)
            if value is not None:
                return value, name
        return None, None

    @staticmethod
    def _heldout_reference(pl_module: L.LightningModule, source: str | None, reference: float) -> float:
        own = _of_the_module(pl_module, "heldout_trivial_loss") if source == "heldout_loss" else None
        return reference if own is None else own

    def _without_evidence(self, trainer: L.Trainer) -> str:
        reason = (
            "the data is fitted; an error or a held-out loss is needed to tell well-trained from over-trained: name a "
            "logged metric by `error_metric` or `heldout_metric`"
        )
        named = self.error_metric or self.heldout_metric
        if named is not None:
            reason = _not_logged(trainer, named)
        self.warn(f"RegimeDetection gives no label: {reason}", once="evidence")
        return reason


def _of_the_module(pl_module: L.LightningModule, name: str) -> float | None:
    """Return what a method of the module says; it may say None, as long as there is nothing to compare with."""
    method = getattr(pl_module, name, None)
    value = method() if callable(method) else None
    return None if value is None else _number(value)


def _not_logged(trainer: L.Trainer, name: str) -> str:
    logged = sorted({**trainer.logged_metrics, **trainer._logger_connector._callback_metrics})
    own = [key for key in logged if not key.startswith(("regime/", "hessian/", "alignment/", "field/"))]
    return f"the metric {name!r} has not been logged; logged are: {', '.join(own) or 'none'}"


def _logged(trainer: Any, name: str) -> float | None:
    # Not `trainer.callback_metrics`: reading that property computes the user's unfinished metrics.
    connector = trainer._logger_connector
    for metrics in (connector._callback_metrics, connector._logged_metrics):
        if name in metrics:
            return _number(metrics[name])
    return None


def _number(value: Tensor | float) -> float:
    return float(value.detach().double().item() if isinstance(value, Tensor) else torch.tensor(value).item())
