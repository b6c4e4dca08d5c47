"""What all diagnostics share: when to measure, on which batches, where the result goes, what happens on failure."""

from __future__ import annotations

import contextlib
import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import lightning as L
import torch
import torch.distributed as dist

from lightning_regimes.callbacks.closing_word import say_where_records_are
from lightning_regimes.callbacks.interrupted_run import last_recorded_step, open_journal
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.overhead_budget import OverheadBudget
from lightning_regimes.callbacks.probe_batches import ProbeBatches
from lightning_regimes.callbacks.training_ahead import seconds_ahead
from lightning_regimes.callbacks.training_clock import training_clock
from lightning_regimes.callbacks.training_processes import process_group
from lightning_regimes.curvature import parameters_of
from lightning_regimes.isolation import Mode, preserved_rng
from lightning_regimes.parameter_selection import ParameterFilter
from lightning_regimes.probe import LossFunction, LossProbe, ProbeError, check_module
from lightning_regimes.processes import Processes
from lightning_regimes.recording import Journal, Record, emit, logged_step

# What the trial of a diagnostic may cost, in gradients of the training.
_GRADIENTS_PER_TRIAL = 4


class Diagnostic(L.Callback):
    """Measures something about the training loss while training goes on as if nobody looked.

    Without an explicit period, a diagnostic spends ``overhead_budget`` of the training time: it times training and
    one unit of its own work, and measures whenever what has accrued covers a measurement. Everything it measures is
    appended to ``<run directory>/regimes/records.jsonl`` and then sent to the trainer's loggers.

    Args:
        every_n_steps: measure after every n optimizer steps, in place of the budget.
        every_n_epochs: measure at the end of every n-th epoch, in place of the budget.
        at_start: measure before training changes the weights, as soon as the probe's batches are there.
        at_end: measure when training ends, whatever is left of the budget, which saves up for it.
        overhead_budget: share of the training time to spend; 0 measures at explicit times only.
        num_batches: how many of the first training batches to measure on. They are copied and kept.
        loss: as for :class:`~lightning_regimes.LossProbe`.
        parameters: as for :class:`~lightning_regimes.LossProbe`.
        optimizer_index: look at the loss as a function of what this optimizer trains, in place of ``parameters``.
        mode: as for :class:`~lightning_regimes.LossProbe`.
        double_precision: evaluate the loss in float64.
        on_error: ``"early"`` raises what is known to be wrong before training and only warns during it, ``"warn"``
            never raises, ``"raise"`` always does.

    Raises:
        ValueError: an option is out of range.
    """

    name: ClassVar[str]
    """First part of the keys of everything that the diagnostic records."""

    def __init__(
        self,
        *,
        every_n_steps: int | None = None,
        every_n_epochs: int | None = None,
        at_start: bool = False,
        at_end: bool = False,
        overhead_budget: float = 0.05,
        num_batches: int = 1,
        loss: LossFunction | None = None,
        parameters: ParameterFilter | None = None,
        optimizer_index: int | None = None,
        mode: Mode = "eval",
        double_precision: bool = False,
        on_error: Literal["early", "warn", "raise"] = "early",
    ) -> None:
        for option, value in (
            ("every_n_steps", every_n_steps),
            ("every_n_epochs", every_n_epochs),
            ("num_batches", num_batches),
        ):
            if value is not None and value < 1:
                raise ValueError(f"`{option}` is at least 1, got {value}")
        if on_error not in ("early", "warn", "raise"):
            raise ValueError(f"`on_error` is 'early', 'warn' or 'raise', got {on_error!r}")
        if optimizer_index is not None and (optimizer_index < 0 or parameters is not None):
            raise ValueError(
                f"`optimizer_index` is not negative and does not go with `parameters`, got {optimizer_index}"
            )
        self.optimizer_index = optimizer_index
        self.every_n_steps = every_n_steps
        self.every_n_epochs = every_n_epochs
        self.at_start = at_start
        self.at_end = at_end
        self.num_batches = num_batches
        self.on_error = on_error
        self._sources: dict[str, Any] = {"loss": loss, "parameters": parameters}
        self.mode: Mode = mode
        self._dtype = torch.float64 if double_precision else None
        self.overhead_budget = overhead_budget
        self._budgeted = overhead_budget > 0 and every_n_steps is None and every_n_epochs is None
        self.reset()

    # What a diagnostic defines

    @abstractmethod
    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Return what there is to record; called inside ``probe.isolated()``."""

    @abstractmethod
    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Do one unit of the work after another that warms up, inside ``probe.isolated()``; return its seconds."""

    @abstractmethod
    def expected_units(self) -> int:
        """Return how many units a measurement takes, setup included, as far as is known before the first."""

    def settle(self, trainer: L.Trainer, unit: float) -> None:
        """Called in all processes after the trial, with the seconds of a unit; may change what a measurement is."""

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Raise ValueError or ProbeError for what is known to be wrong before training."""

    def reset(self) -> None:
        """Forget everything about a training; called before each training that starts anew."""
        self.budget = OverheadBudget(self.overhead_budget)
        self._enabled = True
        self._group: dist.ProcessGroup | None = None
        self._processes = Processes()
        self.batches = ProbeBatches(self.num_batches)
        self._journal: Journal | None = None
        self._restored_directory: str | None = None
        self._training_before = 0.0
        self._num_measurements = 0
        self.num_train_batches = 0
        self._next_look = 0
        self._num_gradients = 0
        self._first_global_step = 0
        self._first_train_batch = 0
        self._last_global_step = -1
        self._warned: set[str] = set()

    def on_batch_captured(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Called when a batch for the probe has been captured, before the step on it."""

    # Hooks

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start anew, unless the trainer goes on with a training; a checkpoint's state is loaded after this."""
        if stage == "fit" and trainer.global_step == 0:
            self.reset()

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Check what can be checked before training."""
        try:
            self._group = process_group(trainer)
            self._processes = Processes(self._group)
            if self.optimizer_index is not None:
                self._sources["parameters"] = self._trained_parameters(trainer, pl_module)
            self.check(trainer, pl_module, check_module(pl_module, **self._sources))
        except (ValueError, TypeError, ProbeError) as error:
            if self.on_error != "warn":
                raise
            self.warn(f"{self._title} is off: {error}")
            self._enabled = False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock, and open the journal: that of the interrupted run when a checkpoint is resumed."""
        # Not earlier: only now does the trainer know at which step it resumes.
        self._first_global_step = trainer.global_step
        self._first_train_batch = self.num_train_batches
        if self._enabled and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._last_global_step = max(
                self._last_global_step, self._processes.broadcast(lambda: self._open_journal(trainer))
            )
        training_clock(trainer).restart()
        self._training_before = self.budget.training

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Capture the first batches; measure once they are there, if asked to."""
        if not self._enabled or self.batches.is_complete:
            return
        start = time.perf_counter()
        with (
            training_clock(trainer).paused(pl_module.device),
            preserved_rng(),
            self._tolerated(f"could not use batch {batch_idx}"),
        ):
            # What one of several processes keeps, all keep looking at: they evaluate together.
            if any(self._processes.collect(lambda: self.batches.offer(batch))):
                self.on_batch_captured(trainer, pl_module)
        self.budget.spent += time.perf_counter() - start
        if self.batches.is_complete and self.at_start and self._num_measurements == 0:
            self._measure(trainer, pl_module)

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count evaluations of the gradient: an optimizer such as L-BFGS takes many of them in a step."""
        self._num_gradients += 1

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Measure if the period or the budget says so."""
        self.num_train_batches += 1
        if not self._enabled or not self.batches.kept:
            return
        if self.every_n_steps is not None:
            if self._passes_period(trainer):
                self._measure(trainer, pl_module)
        elif self._budgeted and self.num_train_batches >= self._next_look:
            start = time.perf_counter()
            self._update_budget(trainer)
            # The clocks of several processes differ, and all must measure together.
            granted, wait = self._processes.broadcast(lambda: self._look_at_budget(trainer))
            self._next_look = self.num_train_batches + wait
            self.budget.spent += time.perf_counter() - start
            if granted == "trial":
                self._try(trainer, pl_module)
            elif granted == "measurement":
                self._measure(trainer, pl_module)
        if trainer.fast_dev_run and self._num_measurements == 0:  # type: ignore[attr-defined]
            self._measure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure if the period says so."""
        if self._ends_period(trainer):
            self._measure(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Measure if asked to; otherwise say so when the budget was too small for any measurement."""
        if self.at_end:
            self._measure(trainer, pl_module)
        if self._journal is not None and trainer.is_global_zero:
            self._journal.finish(trainer.global_step)
        self._update_budget(trainer)
        if self._enabled and self._budgeted and self._num_measurements == 0:
            known = "" if self.budget.prediction is None else f" and a measurement takes {self.budget.prediction:.2g} s"
            self.warn(
                f"{self._title} measured nothing: training took {self.budget.training:.2g} s, of which "
                f"{self.budget.fraction:.3g} may be spent{known}. Set `at_end=True` or a period, or raise "
                "`overhead_budget`.",
                once="budget",
            )

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Say what the run ended as and where its records are, the first of several diagnostics for all of them."""
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        diagnostics = [callback for callback in callbacks if isinstance(callback, Diagnostic)]
        if self is diagnostics[0]:
            journal = next((each._journal for each in diagnostics if each._journal is not None), None)
            say_where_records_are(trainer, journal, [each.closing_word() for each in diagnostics])

    def closing_word(self) -> str:
        """Return what there is to say at the end of a training, in a sentence; nothing by default."""
        return ""

    # State

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands, in plain numbers and tensors; the probe's batches if they are small."""
        return {
            "num_measurements": self._num_measurements,
            "num_train_batches": self.num_train_batches,
            "num_gradients": self._num_gradients,
            "training_seconds": self.budget.training,
            "spent_seconds": self.budget.spent,
            "prediction_seconds": self.budget.prediction,
            "directory": None if self._journal is None else str(self._journal.directory.absolute()),
            # Those of one process are not those of the others.
            "batches": self.batches.state_dict() if self._processes.count == 1 else {},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        self._num_measurements = state_dict["num_measurements"]
        self.num_train_batches = state_dict["num_train_batches"]
        self._num_gradients = state_dict["num_gradients"]
        self.budget.training = state_dict["training_seconds"]
        self.budget.spent = state_dict["spent_seconds"]
        self.budget.prediction = state_dict["prediction_seconds"]
        self._restored_directory = state_dict["directory"]
        self.batches.load_state_dict(state_dict["batches"])

    # Measuring

    def probe(self, pl_module: L.LightningModule) -> LossProbe:
        """Return a probe at the module's present parameters, on the captured batches."""
        return LossProbe(
            pl_module,
            self.batches.kept,
            mode=self.mode,
            dtype=self._dtype,
            process_group=self._group,
            **self._sources,
        )

    def is_due(self, trainer: L.Trainer) -> bool:
        """Whether a schedule of the diagnostic's own, other than its budget, names this hook and it has yet to run."""
        if not self._enabled or not self.batches.kept or trainer.global_step == self._last_global_step:
            return False
        hook = trainer.lightning_module._current_fx_name
        if hook == "on_train_end":
            return self.at_end
        if hook == "on_train_epoch_end":
            return self._ends_period(trainer)
        if hook == "on_train_batch_end":
            return self._passes_period(trainer)
        return self.at_start and self.batches.is_complete and self._num_measurements == 0

    def optimizers(self, trainer: L.Trainer) -> list[Any]:
        """Return the optimizers of what is looked at."""
        optimizers = list(trainer.optimizers)
        return optimizers if self.optimizer_index is None else [optimizers[self.optimizer_index]]

    def affordable_seconds(self, trainer: L.Trainer) -> float:
        """Return what the budget grants from now until training ends; infinite where the end is not known."""
        ahead = seconds_ahead(
            trainer,
            seconds_per_batch=self.budget.training / max(self.num_train_batches, 1),
            num_steps=trainer.global_step - self._first_global_step,
            num_batches=self.num_train_batches - self._first_train_batch,
        )
        return self.budget.fraction * (self.budget.training + ahead) - self.budget.spent

    def _trained_parameters(self, trainer: L.Trainer, pl_module: L.LightningModule) -> list[str]:
        count = len(trainer.optimizers)
        if self.optimizer_index is not None and self.optimizer_index >= count:
            raise ValueError(
                f"`optimizer_index` is below the number of optimizers, {count}, got {self.optimizer_index}"
            )
        belongs = parameters_of(self.optimizers(trainer)[0])
        return [name for name, parameter in pl_module.named_parameters() if belongs(name, parameter)]

    def _passes_period(self, trainer: L.Trainer) -> bool:
        if self.every_n_steps is None:
            return False
        # Counted in periods passed, since several optimizers advance the step by more than one.
        last = max(self._last_global_step, self._first_global_step)
        return trainer.global_step // self.every_n_steps > last // self.every_n_steps

    def _ends_period(self, trainer: L.Trainer) -> bool:
        return self.every_n_epochs is not None and (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def _look_at_budget(self, trainer: L.Trainer) -> tuple[Literal["trial", "measurement"] | None, int]:
        """Return what is granted now, and after how many batches to look again."""
        gradient = self.budget.training / max(self._num_gradients, self.num_train_batches)
        if self.budget.grants_trial(_GRADIENTS_PER_TRIAL * gradient):
            return "trial", 1
        # What is due at the end is saved up for.
        due = 2 * (self.budget.prediction or 0.0) if self.at_end else 0.0
        if self.budget.grants_measurement() and self.affordable_seconds(trainer) >= due:
            return "measurement", 1
        cost = self.budget.prediction or _GRADIENTS_PER_TRIAL * gradient
        return None, self.budget.batches_until_look(cost, self.num_train_batches)

    def _open_journal(self, trainer: L.Trainer) -> int:
        """Open the journal, in the first process alone; return the last step that it has a record of."""
        if self._journal is not None:
            return -1
        interrupted, self._restored_directory = self._restored_directory, None
        self._journal = open_journal(trainer, interrupted)
        return -1 if interrupted is None else last_recorded_step(self._journal, self.name)

    def _measure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._enabled or not self.batches.kept or trainer.global_step == self._last_global_step:
            return
        self._last_global_step = trainer.global_step
        self._update_budget(trainer)
        with training_clock(trainer).paused(pl_module.device), preserved_rng():
            start = time.perf_counter()
            measurement: Measurement | None = None
            with self._tolerated(f"skipped its measurement at step {trainer.global_step}"):
                probe = self.probe(pl_module)
                with probe.isolated():
                    measurement = self.measure(probe, trainer, pl_module)
            seconds = time.perf_counter() - start
            self.budget.measured(seconds)
            if all(self._processes.collect(lambda: measurement is not None)) and measurement is not None:
                self._num_measurements += 1
                self._record(trainer, pl_module, measurement, seconds)
            self.budget.spent += time.perf_counter() - start - seconds

    def follow_up(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        measure: Callable[[L.LightningModule], Measurement],
    ) -> None:
        """Record what can only be known after the step that follows a measurement; nothing if it comes back empty."""
        if not self._enabled:
            return
        self._update_budget(trainer)
        with training_clock(trainer).paused(pl_module.device), preserved_rng():
            start = time.perf_counter()
            measurement = Measurement()
            with self._tolerated(f"skipped looking back at step {trainer.global_step}"):
                measurement = measure(pl_module)
            seconds = time.perf_counter() - start
            if all(self._processes.collect(lambda: bool(measurement.scalars))):
                self._record(trainer, pl_module, measurement, seconds)
            self.budget.spent += time.perf_counter() - start

    @contextlib.contextmanager
    def _tolerated(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if self.on_error == "raise":
                raise
            self.warn(
                f"{self._title} {what}, training goes on: {type(error).__name__}: {error}",
                once=f"{what.partition(' at step')[0]} {type(error).__name__}",
            )

    def _record(
        self, trainer: L.Trainer, pl_module: L.LightningModule, measurement: Measurement, seconds: float
    ) -> None:
        own = {f"{self.name}/seconds": seconds, f"{self.name}/overhead": self.budget.overhead}
        # What is monitored must be the same in all processes, and times are not.
        scalars = self._processes.broadcast(lambda: {**measurement.scalars, **own})
        record = Record(
            diagnostic=self.name,
            step=logged_step(trainer),
            global_step=trainer.global_step,
            epoch=trainer.current_epoch,
            scalars=scalars,
            text=measurement.text,
            arrays=measurement.arrays,
            context={**measurement.context, "num_batches": len(self.batches.kept)},
            figures=measurement.figures,
            histograms=measurement.histograms,
            tables=measurement.tables,
        )
        if self._journal is not None and trainer.is_global_zero:
            self._journal.append(record)
        emit(trainer, pl_module, record)

    def _try(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with training_clock(trainer).paused(pl_module.device), preserved_rng():
            start = time.perf_counter()
            unit: float | None = None
            with self._tolerated("is off"):
                probe = self.probe(pl_module)
                with probe.isolated():
                    unit = self.try_unit(probe, trainer, pl_module)
            seconds = time.perf_counter() - start
        units = self._processes.collect(lambda: unit)
        if unit is None or None in units:
            self._enabled = False
            return
        self.settle(trainer, unit)
        self.budget.tried(seconds=seconds, unit=unit, units=self.expected_units())
        self._warn_if_unaffordable(trainer)

    def _update_budget(self, trainer: L.Trainer) -> None:
        self.budget.training = self._training_before + training_clock(trainer).seconds

    def _warn_if_unaffordable(self, trainer: L.Trainer) -> None:
        affordable, prediction = self.affordable_seconds(trainer), self.budget.prediction
        # What is asked for at the end is measured then, whatever it takes.
        if prediction is not None and affordable < prediction and not self.at_end:
            granted = affordable + self.budget.spent
            training = granted / self.budget.fraction
            self.warn(
                f"{self._title} will not fit into its budget before training ends: one measurement takes about "
                f"{prediction:.2g} s, and {self.budget.fraction:.3g} of the {training:.2g} s of training is "
                f"{granted:.2g} s. Set `overhead_budget` to at least "
                f"{(self.budget.spent + prediction) / training:.2g}, or `at_end=True` or a period.",
                once="budget",
            )

    @property
    def _title(self) -> str:
        # Those that the environment variable adds are private subclasses.
        return type(self).__name__.lstrip("_")

    def warn(self, message: str, *, once: str | None = None) -> None:
        """Warn, at most once for the same message or the same ``once``."""
        if (once or message) not in self._warned:
            self._warned.add(once or message)
            warnings.warn(message, RuntimeWarning, stacklevel=2)
