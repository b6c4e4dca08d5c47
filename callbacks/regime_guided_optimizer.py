"""Acts on the regime while training goes on: optimizer, difficulty, points, decay."""

from __future__ import annotations

import logging
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
from rich.console import Console

from lightning_regimes.callbacks.guided_change import (
    changed_settings,
    exhausted,
    halve_learning_rate,
    set_weight_decay,
)
from lightning_regimes.callbacks.guided_curriculum import CurriculumSchedule
from lightning_regimes.callbacks.guided_decision import Decision, Situation, decide
from lightning_regimes.callbacks.guided_precision import set_precision
from lightning_regimes.callbacks.guided_settings import GuidedSettings, available_remedies
from lightning_regimes.callbacks.guided_training import GuidedTraining
from lightning_regimes.callbacks.guided_trial import Trial, put_back_optimizers, stored_training
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.probe_batches import ProbeBatches
from lightning_regimes.callbacks.regime_detection import RegimeDetection
from lightning_regimes.optim import LBFGSFactory, NNCGFactory, OptimizerFactory
from lightning_regimes.probe import LossProbe
from lightning_regimes.recording import records_directory
from lightning_regimes.regimes import Regime, Remedy

_log = logging.getLogger(__name__)


class RegimeGuidedOptimizer(RegimeDetection):
    """Changes the training as its regime calls for, and goes back where that made things worse.

    This callback changes the training, on purpose; until its first intervention the weights are bitwise those without
    it. At each check it labels the run as :class:`~lightning_regimes.callbacks.RegimeDetection` does, from the training
    and the held-out loss (a reference solution is not looked at), and applies the first remedy of the regime that is
    available and not used up (:func:`lightning_regimes.regimes.remedies`):

    - **under-trained**: L-BFGS; where that settles or cannot be had a curriculum, from the weights of before L-BFGS,
      where the module has ``set_difficulty(share)``, and at last an augmented Lagrangian, where it has
      ``enforce_conditions(how)``;
    - **over-trained**: twice as many points, where the datamodule has ``renew_training_data(factor=, draw=)``, then a
      curriculum where the held-out loss is above that of the trivial predictor, and then weight decay;
    - **well-trained**: L-BFGS; once that has settled, more points where they limit the held-out loss, otherwise
      float64, and Newton steps (NNCG) where L-BFGS has stalled;
    - **diverged**: back to before the last intervention, or half the learning rate where there was none.

    L-BFGS and Newton steps need full batches (``datamodule.full_batch``, or one batch an epoch), one optimizer under
    automatic optimization, and no accumulation; float64 is for trainings in float32 that L-BFGS is available for, which
    end in float32 again; Newton steps need the module's own ``backward`` (see
    :class:`~lightning_regimes.optim.NNCG`). A curriculum runs under L-BFGS where that is available; a stage ends
    when it is fitted, and each has points of its own where the datamodule renews them.

    Before each intervention a checkpoint of the trainer is written beside the records. If the held-out loss is worse
    at the second check after it, weights, optimizer and settings of that checkpoint are put back, and the remedy is not
    tried again; the count of steps goes on. So it goes where the loss is not finite, as soon as a Newton step meets it
    and with a warning. Every decision is recorded with its reason.

    Args:
        every_n_gradients: evaluations of the gradient between checks; the Hessian-vector products of Newton steps
            count as two each.
        warm_up: evaluations of the gradient before the first intervention.
        max_gradients: evaluations that training may take; curricula plan with it. None leaves the end to the
            trainer.
        quasi_newton: makes the L-BFGS optimizer; by default one that small losses do not end
            (:class:`~lightning_regimes.optim.RescaledLBFGS`).
        newton: makes the Newton optimizer.
        curriculum_stages: number of coefficients of a curriculum, the target included.
        curriculum_fit: training loss over reference loss at which a stage is fitted.
        gradients_per_stage: evaluations after which a stage ends anyway.
        renew_points: whether each stage of a curriculum draws new points.
        max_point_factor: how many times as many points as at first there may be.
        weight_decay: decay for an over-trained run.
        options: as for :class:`~lightning_regimes.callbacks.RegimeDetection`, without a schedule.

    Raises:
        ValueError: an option is out of range, or the training runs in several processes.

    References:
        Which remedy helps where: Wang et al. 2026, arXiv:2605.29153. Curriculum: Krishnapriyan et al. 2021,
        arXiv:2109.01050. Newton steps: Rathore et al. 2024, arXiv:2402.01868.
    """

    name: ClassVar[str] = "guided"

    def __init__(
        self,
        *,
        every_n_gradients: int = 250,
        warm_up: int = 500,
        max_gradients: int | None = None,
        quasi_newton: OptimizerFactory | None = None,
        newton: OptimizerFactory | None = None,
        curriculum_stages: int = 30,
        curriculum_fit: float = 2e-3,
        gradients_per_stage: int = 400,
        renew_points: bool = True,
        max_point_factor: int = 8,
        weight_decay: float = 1e-2,
        num_batches: int = 1,
        **options: Any,
    ) -> None:
        for option, value in (
            ("every_n_gradients", every_n_gradients),
            ("max_gradients", max_gradients),
            ("curriculum_stages", curriculum_stages),
            ("gradients_per_stage", gradients_per_stage),
            ("max_point_factor", max_point_factor),
        ):
            if value is not None and value < 1:
                raise ValueError(f"`{option}` is at least 1, got {value}")
        for option, number in (("warm_up", warm_up), ("curriculum_fit", curriculum_fit), ("decay", weight_decay)):
            if not number >= 0:
                raise ValueError(f"`{option}` is not negative, got {number}")
        # A configuration hands over the defaults of all options.
        names = ("every_n_steps", "every_n_epochs", "at_start")
        schedule = [name for name in names if options.get(name)]
        if schedule:
            raise ValueError(f"the schedule is `every_n_gradients`, got {', '.join(schedule)}")
        if options.pop("estimate_error", False):
            raise ValueError(
                "`estimate_error` is False: decisions follow the held-out loss, by which they were measured"
            )
        self.every_n_gradients = every_n_gradients
        self.warm_up = warm_up
        self.max_gradients = max_gradients
        self.quasi_newton = quasi_newton or LBFGSFactory(rescale=True)
        self.newton = newton or NNCGFactory()
        self.curriculum_stages = curriculum_stages
        self.curriculum_fit = curriculum_fit
        self.gradients_per_stage = gradients_per_stage
        self.renew_points = renew_points
        self.max_point_factor = max_point_factor
        self.weight_decay = weight_decay
        super().__init__(overhead_budget=0.0, num_batches=num_batches, estimate_error=False, **options)

    def reset(self) -> None:
        """Forget everything about a training."""
        super().reset()
        self.training = GuidedTraining(self.quasi_newton, self.newton)
        self.decisions: list[dict[str, Any]] = []
        self._used_up: set[Remedy] = set()
        self._last_check = 0
        self._stage_start = 0
        self._gradients_before = 0
        self._earlier_loss: float | None = None
        self._trial: Trial | None = None
        self._before_settling: str | None = None
        self._regime: Regime | None = None
        self._goes_back = False
        self._judged = math.nan
        self._decision = Decision(None, "")

    @property
    def num_gradients(self) -> int:
        """Evaluations of the gradient so far, those that Hessian-vector products stand for included."""
        return self._num_gradients + self.training.product_gradients

    @property
    def settings(self) -> GuidedSettings:
        """Where the training differs from the one that the user configured."""
        return self.training.settings

    # Hooks

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the module's own optimizers; put those of an interrupted training in place before their state loads."""
        if trainer.world_size > 1:
            raise ValueError(f"RegimeGuidedOptimizer works in one process, got {trainer.world_size}")
        super().on_fit_start(trainer, pl_module)
        self.training.begin(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count, move the curriculum on, check when it is time, and stop when the gradients are spent."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        self.training.count_products(trainer)
        if self.training.failure is not None:
            self._give_up_step(trainer, pl_module, self.training.failure)
        elif self._enabled and self.batches.kept:
            if self.training.in_curriculum:
                self._follow_curriculum(trainer, pl_module)
            elif self.num_gradients - self._last_check >= self.every_n_gradients:
                self._last_check = self.num_gradients
                self._measure(trainer, pl_module)
        last_step, self._gradients_before = self.num_gradients - self._gradients_before, self.num_gradients
        if self.max_gradients is not None and self.num_gradients + last_step > self.max_gradients:
            trainer.should_stop = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go back if the last intervention made things worse; label the finished run."""
        self.training.end(trainer, pl_module)
        if self._trial is not None:
            self._trial.checks = 1
        went_back = len(self.decisions)
        super().on_train_end(trainer, pl_module)
        if len(self.decisions) > went_back and self.at_end:
            self._last_global_step = -1
            self._measure(trainer, pl_module)
        if self.settings.double:
            set_precision(trainer, pl_module, double=False)

    def _measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        before = self._num_measurements
        super()._measure(trainer, pl_module)
        if self._num_measurements > before:
            self._act(trainer, pl_module, self._decision)

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Label the run and decide what to do."""
        found = super().measure(probe, trainer, pl_module)
        self._decision = self._decide(trainer, pl_module, found)
        scalars = {
            "guided/num_gradients": self.num_gradients,
            "guided/difficulty": self.settings.share,
            "guided/point_factor": self.settings.factor,
            "guided/num_interventions": len(self.decisions),
            "guided/num_evaluations": found.scalars["regime/num_evaluations"],
        }
        remedy = self._decision.remedy
        text = {"guided/decision": "go_back" if self._goes_back else "none" if remedy is None else remedy.value}
        context = {"decision_reason": self._decision.reason, "optimizer": self.settings.optimizer}
        return Measurement(
            scalars={**found.scalars, **scalars},
            text={**found.text, **text},
            arrays={},
            context={**found.context, **context},
            tables=found.tables,
        )

    def _error(self, trainer: L.Trainer, pl_module: L.LightningModule) -> tuple[float | None, str | None]:
        # What training is steered by must not be the reference that it is judged by, unless someone asks for it.
        return (None, None) if self.error_metric is None else super()._error(trainer, pl_module)

    # Deciding

    def _decide(self, trainer: L.Trainer, pl_module: L.LightningModule, found: Measurement) -> Decision:
        self._goes_back = False
        loss = found.scalars["regime/normalized_loss"]
        heldout = found.scalars.get("regime/normalized_heldout_loss")
        judged = loss if heldout is None else heldout
        regime = found.scalars.get("regime/id")
        self._judged = judged
        self._regime = None if regime is None else Regime(int(regime))
        earlier, self._earlier_loss = self._earlier_loss, loss
        trial = self._trial
        if trial is not None:
            trial.checks += 1
            unstable = not math.isfinite(judged) or (regime == Regime.DIVERGED and not trial.passed)
            if unstable or trial.fails(judged):
                if self._lacks_points(trainer, pl_module, regime):
                    return Decision(Remedy.MORE_POINTS, f"over-trained after {trial.remedy}")
                self._goes_back = True
                which = "training" if heldout is None else "held-out"
                return Decision(None, f"{which} loss {judged:.2g} after {trial.remedy}, {trial.judged:.2g} before it")
            trial.passed = trial.passed or trial.is_due
        if trainer.lightning_module._current_fx_name == "on_train_end":
            return Decision(None, "training ends")
        return decide(
            Situation(
                regime=self._regime,
                normalized_loss=loss,
                normalized_heldout_loss=heldout,
                earlier_loss=earlier,
                optimizer=self.settings.optimizer,
                num_gradients=self.num_gradients,
                warm_up=self.warm_up,
                available=available_remedies(trainer, pl_module),
                used_up=frozenset(self._used_up),
            )
        )

    def _lacks_points(self, trainer: L.Trainer, pl_module: L.LightningModule, regime: float | None) -> bool:
        """Whether it is for want of points that a change has not paid yet."""
        more = Remedy.MORE_POINTS
        offered = more in available_remedies(trainer, pl_module) and more not in self._used_up
        training_ends = trainer.lightning_module._current_fx_name == "on_train_end"
        return offered and regime == Regime.OVER_TRAINED and not training_ends

    # Acting

    def _act(self, trainer: L.Trainer, pl_module: L.LightningModule, decision: Decision) -> None:
        if self._goes_back:
            self._go_back(trainer, pl_module, decision.reason)
            return
        if decision.remedy is None:
            return
        remedy, number = decision.remedy, len(self.decisions)
        path = Path(records_directory(trainer)) / f"before_{number}_{remedy.value}.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        if self._trial is None or self._trial.passed:
            self._trial = Trial(remedy.value, self._judged, str(path.absolute()))
        # What is changed before a change has proved itself is judged, and taken back, together with it.
        self._trial.checks = 0
        if remedy is Remedy.QUASI_NEWTON and self._regime is Regime.UNDER_TRAINED:
            self._before_settling = str(path.absolute())
        elif remedy is Remedy.CURRICULUM:
            self._leave_minimum(pl_module)
        elif remedy is Remedy.WEIGHT_DECAY:
            set_weight_decay(trainer, self.weight_decay)
        elif remedy is Remedy.LOWER_LEARNING_RATE:
            halve_learning_rate(trainer)
            self._trial = None
        settings = changed_settings(
            remedy,
            self.settings,
            num_stages=self.curriculum_stages,
            renew_points=self.renew_points,
            full_batches=Remedy.QUASI_NEWTON in available_remedies(trainer, pl_module),
        )
        self._used_up |= exhausted(remedy, settings, max_point_factor=self.max_point_factor)
        self._change(trainer, pl_module, settings, optimizer_anew=settings != self.settings)
        self._stage_start = self.num_gradients
        self._note(trainer, remedy.value, decision.reason, path)

    def _leave_minimum(self, pl_module: L.LightningModule) -> None:
        """Take the weights of before L-BFGS settled in a minimum that does not solve the problem."""
        path, self._before_settling = self._before_settling, None
        stored = None if path is None else stored_training(path)
        if stored is not None:
            pl_module.load_state_dict(stored["state_dict"])

    def _change(
        self, trainer: L.Trainer, pl_module: L.LightningModule, settings: GuidedSettings, *, optimizer_anew: bool
    ) -> None:
        if self.training.change(trainer, pl_module, settings, optimizer_anew=optimizer_anew):
            self.batches = ProbeBatches(self.num_batches)
        self._earlier_loss = None

    def _go_back(self, trainer: L.Trainer, pl_module: L.LightningModule, reason: str) -> None:
        trial, self._trial = self._trial, None
        assert trial is not None
        self._used_up.add(Remedy(trial.remedy))
        if trial.remedy == Remedy.QUASI_NEWTON:
            self._before_settling = None
        stored = stored_training(trial.path)
        if stored is None:
            self.warn(f"RegimeGuidedOptimizer cannot go back: {trial.path} is gone", once="gone")
            return
        settings = GuidedSettings(**stored["callbacks"][self.state_key]["settings"])
        if settings.conditions is None and self.settings.conditions is not None:
            pl_module.enforce_conditions("soft")  # type: ignore[operator]
        pl_module.load_state_dict(stored["state_dict"])
        self._change(trainer, pl_module, settings, optimizer_anew=True)
        put_back_optimizers(trainer, stored)
        self.training.forget_products(trainer)
        self._note(trainer, "go_back", reason, trial.path)

    def _give_up_step(self, trainer: L.Trainer, pl_module: L.LightningModule, reason: str) -> None:
        """Go back from a step that could not be taken; without a way back, let the own optimizer go on."""
        optimizer = self.settings.optimizer
        self.warn(f"RegimeGuidedOptimizer takes {optimizer} back at step {trainer.global_step}: {reason}")
        self._used_up.add(Remedy(optimizer))
        if self._trial is not None:
            self._go_back(trainer, pl_module, reason)
        if self.settings.optimizer == optimizer:
            self._change(trainer, pl_module, self.settings.changed(optimizer="own"), optimizer_anew=True)

    def _follow_curriculum(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Go on to the next coefficient when this one is fitted, or has had its share of the gradients."""
        remaining = math.inf if self.max_gradients is None else self.max_gradients - self.num_gradients
        left = self.settings.num_stages - self.settings.stage
        schedule = CurriculumSchedule.within(
            remaining, num_stages=left + 1, fitted=self.curriculum_fit, gradients_per_stage=self.gradients_per_stage
        )
        spent = self.num_gradients - self._stage_start
        # One forward pass a step; only quasi-Newton steps are large enough to look after each.
        if not (self.settings.optimizer != "own" or trainer.global_step % 20 == 0 or schedule.is_spent(spent)):
            return
        loss, heldout = self._current_losses(trainer, pl_module)
        if not math.isfinite(loss) and self._trial is not None:
            self._go_back(trainer, pl_module, "the loss within the curriculum is not finite")
            return
        if not schedule.is_over(loss, spent):
            return
        # What is fitted on these points alone is fitted again on others.
        ends = schedule.generalizes(heldout) or not self.renew_points or schedule.is_spent(spent)
        settings = self.settings.changed(
            stage=self.settings.stage + ends, draw=self.settings.draw + (self.renew_points and not (ends and left == 0))
        )
        self._change(trainer, pl_module, settings, optimizer_anew=True)
        self._last_check = self.num_gradients
        if ends:
            self._stage_start = self.num_gradients

    def _current_losses(self, trainer: L.Trainer, pl_module: L.LightningModule) -> tuple[float, float | None]:
        probe = self.probe(pl_module)
        with probe.isolated():
            loss, _ = self._training_loss(probe, pl_module)
            reference, _ = self._reference_loss(probe, pl_module)
            if loss > self.curriculum_fit * reference:
                return loss / reference, None
            heldout, source = self._heldout_loss(trainer, pl_module)
            heldout_reference = self._heldout_reference(pl_module, source, reference)
        return loss / reference, None if heldout is None else heldout / heldout_reference

    def _note(self, trainer: L.Trainer, what: str, reason: str, path: Path | str) -> None:
        self.decisions.append(
            {
                "global_step": trainer.global_step,
                "num_gradients": self.num_gradients,
                "decision": what,
                "reason": reason,
                "checkpoint": str(path),
            }
        )
        message = f"step {trainer.global_step}, {self.num_gradients} gradients: {what} ({reason})"
        _log.info("RegimeGuidedOptimizer: %s", message)
        Console().print(f"[bold]guided[/] {message}", highlight=False, soft_wrap=True)

    # State

    def state_dict(self) -> dict[str, Any]:
        """What was changed, what was tried, and the counts, in plain values."""
        return super().state_dict() | {
            **self.training.state_dict(),
            "decisions": [dict(entry) for entry in self.decisions],
            "used_up": sorted(remedy.value for remedy in self._used_up),
            "last_check": self._last_check,
            "stage_start": self._stage_start,
            "earlier_loss": self._earlier_loss,
            "gradients_before": self._gradients_before,
            "trial": None if self._trial is None else asdict(self._trial),
            "before_settling": self._before_settling,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        super().load_state_dict(state_dict)
        self.training.load_state_dict(state_dict)
        self.decisions = [dict(entry) for entry in state_dict["decisions"]]
        self._used_up = {Remedy(value) for value in state_dict["used_up"]}
        self._last_check = state_dict["last_check"]
        self._stage_start = state_dict["stage_start"]
        self._earlier_loss = state_dict["earlier_loss"]
        self._gradients_before = state_dict["gradients_before"]
        self._trial = None if state_dict["trial"] is None else Trial(**state_dict["trial"])
        self._before_settling = state_dict["before_settling"]
