import json
import warnings

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, Timer
from lightning.pytorch.demos.boring_classes import BoringModel, ManualOptimBoringModel
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from lightning_regimes.callbacks import Diagnostic, Measurement
from lightning_regimes.probe import ProbeError
from lightning_regimes.recording import read_records


class LossValue(Diagnostic):
    """Records the loss on the probe under a key that exists."""

    name = "hessian"

    def __init__(self, *, fail_at=(), **options):
        super().__init__(**options)
        self.fail_at = fail_at
        self.seconds_of_a_unit = 0.0

    def measure(self, probe, trainer, pl_module):
        if trainer.global_step in self.fail_at:
            raise FloatingPointError("the loss is not finite")
        return Measurement(scalars={"hessian/trace": probe.loss().item()})

    def try_unit(self, probe, trainer, pl_module):
        return self.seconds_of_a_unit

    def expected_units(self):
        return 1


def train(tmp_path, callback, *, model=None, steps=12, callbacks=(), logger=False, ckpt_path=None, **options):
    torch.manual_seed(0)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        max_steps=steps,
        accelerator="cpu",
        callbacks=[callback, *callbacks],
        logger=logger,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        **{"limit_train_batches": 6, "limit_val_batches": 0, **options},
    )
    trainer.fit(model or BoringModel(), ckpt_path=ckpt_path)
    return trainer


def recorded(tmp_path):
    (path,) = tmp_path.rglob("records.jsonl")
    return read_records(path.parent.parent)


def test_a_period_in_steps_counts_optimizer_steps_under_accumulation(tmp_path):
    train(tmp_path, LossValue(every_n_steps=3), accumulate_grad_batches=2, max_epochs=4)
    assert [record.global_step for record in recorded(tmp_path)] == [3, 6, 9, 12]


def test_start_end_and_epochs(tmp_path):
    train(tmp_path, LossValue(at_start=True, at_end=True, every_n_epochs=2), steps=20)
    records = recorded(tmp_path)
    assert [record.global_step for record in records] == [0, 12, 20]
    assert [record.epoch for record in records] == [0, 1, 3]
    # The value at which Lightning logs what belongs to the batch just done.
    assert [record.step for record in records] == [0, 11, 19]


def test_the_start_is_measured_before_the_first_step_on_the_initial_weights(tmp_path):
    model = BoringModel()
    with torch.no_grad():
        initial = [parameter.clone() for parameter in model.parameters()]

    seen = {}

    class Look(LossValue):
        def measure(self, probe, trainer, pl_module):
            seen.update({name: leaf.detach().clone() for name, leaf in probe.parameters.items()})
            return super().measure(probe, trainer, pl_module)

    train(tmp_path, Look(at_start=True, overhead_budget=0), model=model)
    assert all(torch.equal(a, b) for a, b in zip(seen.values(), initial, strict=True))


def test_a_failed_measurement_warns_once_and_training_goes_on(tmp_path):
    with pytest.warns(RuntimeWarning, match="skipped its measurement at step 2, training goes on: FloatingPointError"):
        trainer = train(tmp_path, LossValue(every_n_steps=1, fail_at=(2, 3)))
    assert trainer.global_step == 12
    assert [record.global_step for record in recorded(tmp_path)] == [1, *range(4, 13)]
    with pytest.raises(FloatingPointError):
        train(tmp_path, LossValue(every_n_steps=1, fail_at=(2,), on_error="raise"))


def test_what_is_known_to_be_wrong_is_raised_before_training_unless_told_otherwise(tmp_path):
    with pytest.raises(RuntimeError, match="optimizes manually"):
        train(tmp_path, LossValue(at_end=True), model=ManualOptimBoringModel())
    with pytest.warns(RuntimeWarning, match="LossValue is off: .*optimizes manually"):
        trainer = train(tmp_path, LossValue(at_end=True, on_error="warn"), model=ManualOptimBoringModel())
    assert trainer.global_step == 12


def test_a_budget_that_will_not_suffice_is_announced_with_the_numbers(tmp_path):
    callback = LossValue(overhead_budget=0.5)
    callback.seconds_of_a_unit = 1e4
    with pytest.warns(RuntimeWarning, match=r"one measurement takes about 1e\+04 s, and 0.5 of the .*at_end=True"):
        train(tmp_path, callback, steps=60)
    assert not list(tmp_path.rglob("records.jsonl"))


def test_a_training_too_short_for_its_budget_says_so_at_the_end(tmp_path):
    with pytest.warns(RuntimeWarning, match="LossValue measured nothing: training took"):
        train(tmp_path, LossValue(overhead_budget=1e-9))


def test_a_budget_leads_to_measurements_and_the_recorded_overhead_is_the_real_one(tmp_path):
    callback = LossValue(overhead_budget=0.5)
    train(tmp_path, callback, steps=200)
    records = recorded(tmp_path)
    assert len(records) >= 2
    spent = sum(record.scalars["hessian/seconds"] for record in records)
    assert records[-1].scalars["hessian/overhead"] == pytest.approx(callback.budget.overhead, rel=0.5)
    assert callback.budget.spent >= spent


@pytest.mark.parametrize("is_left", [True, False])
def test_a_budget_saves_up_for_the_measurement_that_is_due_at_the_end(tmp_path, monkeypatch, is_left):
    # What is left when training ends, beyond twice what a measurement takes: one now, and one then.
    monkeypatch.setattr(
        LossValue,
        "affordable_seconds",
        lambda self, trainer: (2.1 if is_left else 1.9) * (self.budget.prediction or 0.0),
    )
    callback = LossValue(overhead_budget=0.5, at_end=True)
    callback.seconds_of_a_unit = 1e-4
    train(tmp_path, callback, steps=200)
    steps = [record.global_step for record in recorded(tmp_path)]
    assert steps[-1] == 200
    assert (len(steps) > 1) == is_left


@pytest.mark.parametrize("at_end", [True, False])
def test_a_budget_that_is_too_small_is_told_only_where_nothing_would_be_measured(tmp_path, monkeypatch, at_end):
    monkeypatch.setattr(LossValue, "affordable_seconds", lambda self, trainer: 0.0)
    callback = LossValue(overhead_budget=0.5, at_end=at_end)
    callback.seconds_of_a_unit = 1e-4
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train(tmp_path, callback, steps=50)
    told = [str(warning.message) for warning in caught if "will not fit into its budget" in str(warning.message)]
    assert len(told) == (not at_end)
    if at_end:
        assert recorded(tmp_path)[-1].global_step == 50


class Asks(LossValue):
    """Asks after 20 batches what is left of its budget, as if these had taken two seconds."""

    def on_train_batch_end(self, trainer, pl_module, *arguments):
        super().on_train_batch_end(trainer, pl_module, *arguments)
        if self.num_train_batches == 20:
            self.budget.training, self.budget.spent = 2.0, 0.25
            self.affordable = self.affordable_seconds(trainer)


class TwoOptimizers(ManualOptimBoringModel):
    """Takes two steps in each batch."""

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.step(batch))
            optimizer.step()

    def diagnostic_loss(self, batch):
        return self.step(batch)

    def configure_optimizers(self):
        return [torch.optim.SGD(self.layer.parameters(), lr=0.01) for _ in range(2)], []


@pytest.mark.parametrize(
    ("options", "batches"),
    [
        ({"steps": 60}, 60),
        ({"steps": -1, "max_epochs": 10}, 60),
        ({"steps": 1000, "max_epochs": 5}, 30),
        ({"steps": 15, "accumulate_grad_batches": 2}, 30),
        ({"steps": 80, "model": TwoOptimizers()}, 40),
    ],
)
def test_what_a_budget_grants_is_its_share_of_what_training_will_take_less_what_was_spent(tmp_path, options, batches):
    callback = Asks(overhead_budget=0.5)
    train(tmp_path, callback, **options)
    assert callback.affordable == pytest.approx(0.5 * 2.0 * batches / 20 - 0.25)


def test_a_timer_that_ends_training_ends_the_budget(tmp_path):
    callback = Asks(overhead_budget=0.5)
    train(tmp_path, callback, steps=10**6, callbacks=[Timer(duration={"seconds": 1})])
    assert 0.5 * 2.0 - 0.25 <= callback.affordable <= 0.5 * (2.0 + 1.0) - 0.25


def test_every_measured_scalar_can_be_monitored_at_once(tmp_path):
    checkpoint = ModelCheckpoint(
        dirpath=tmp_path / "best", monitor="hessian/trace", every_n_train_steps=1, save_top_k=-1, filename="{step}"
    )
    train(tmp_path, LossValue(every_n_steps=4), callbacks=[checkpoint])
    assert {path.stem for path in (tmp_path / "best").iterdir()} >= {"step=4", "step=8", "step=12"}


def test_a_fast_dev_run_measures_once_and_writes_nothing(tmp_path):
    measured = []

    class Counted(LossValue):
        def measure(self, probe, trainer, pl_module):
            measured.append(trainer.global_step)
            return super().measure(probe, trainer, pl_module)

    train(tmp_path, Counted(), fast_dev_run=2)
    assert measured == [1]
    assert not list(tmp_path.rglob("records.jsonl"))


def test_a_resumed_run_continues_schedule_file_and_batches(tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(whole, LossValue(every_n_steps=2, num_batches=2), steps=12)

    class Stop(L.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 9:
                raise KeyboardInterrupt

    checkpoint = ModelCheckpoint(dirpath=part / "checkpoints", every_n_train_steps=6, save_top_k=-1, filename="{step}")
    with pytest.raises(SystemExit):
        train(part, LossValue(every_n_steps=2, num_batches=2), callbacks=[Stop(), checkpoint])
    assert [record.global_step for record in recorded(part)] == [2, 4, 6, 8]
    lines_before = next(part.rglob("records.jsonl")).read_text().splitlines()

    resumed = LossValue(every_n_steps=2, num_batches=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        train(part, resumed, ckpt_path=part / "checkpoints" / "step=6.ckpt")
    assert [record.global_step for record in recorded(part)] == [2, 4, 6, 8, 10, 12]
    # Nothing that was written is gone, and the measurements are those of the uninterrupted run.
    assert next(part.rglob("records.jsonl")).read_text().splitlines()[: len(lines_before)] == lines_before
    values = [record.scalars["hessian/trace"] for record in recorded(part)]
    assert values == pytest.approx([record.scalars["hessian/trace"] for record in recorded(whole)], rel=1e-6)


def test_a_second_training_with_the_same_callback_starts_anew(tmp_path):
    callback = LossValue(every_n_steps=4)
    train(tmp_path / "first", callback)
    first_batches = callback.batches.kept
    torch.manual_seed(1)
    train(tmp_path / "second", callback, model=BoringModel())
    assert [record.global_step for record in recorded(tmp_path / "second")] == [4, 8, 12]
    assert callback.batches.kept is not first_batches
    assert [record.global_step for record in recorded(tmp_path / "first")] == [4, 8, 12]


def test_a_run_that_branches_off_a_finished_one_leaves_its_records_alone(tmp_path):
    checkpoint = ModelCheckpoint(
        dirpath=tmp_path / "checkpoints", every_n_train_steps=6, save_top_k=-1, filename="{step}"
    )
    train(tmp_path / "first", LossValue(every_n_steps=2), callbacks=[checkpoint])
    branch = LossValue(every_n_steps=2)
    train(tmp_path / "branch", branch, steps=18, ckpt_path=tmp_path / "checkpoints" / "step=6.ckpt", max_epochs=5)
    assert [record.global_step for record in recorded(tmp_path / "first")] == [2, 4, 6, 8, 10, 12]
    assert [record.global_step for record in recorded(tmp_path / "branch")] == [8, 10, 12, 14, 16, 18]


def test_a_run_resumed_without_the_state_of_the_callback_keeps_to_the_period(tmp_path):
    checkpoint = ModelCheckpoint(
        dirpath=tmp_path / "checkpoints", every_n_train_steps=6, save_top_k=-1, filename="{step}"
    )
    train(tmp_path / "bare", L.Callback(), callbacks=[checkpoint])
    train(
        tmp_path / "late",
        LossValue(every_n_steps=5),
        steps=20,
        ckpt_path=tmp_path / "checkpoints" / "step=6.ckpt",
        max_epochs=5,
    )
    assert [record.global_step for record in recorded(tmp_path / "late")] == [10, 15, 20]


def test_batches_that_cannot_be_copied_do_not_stop_the_training(tmp_path):
    class Sparse(BoringModel):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch.to_dense(), batch_idx)

        def train_dataloader(self):
            return DataLoader([torch.randn(2, 32).to_sparse() for _ in range(6)], batch_size=None)

    train(tmp_path, LossValue(every_n_steps=6, num_batches=3), model=Sparse())
    assert [record.global_step for record in recorded(tmp_path)] == [6, 12]


def test_records_go_to_the_folder_of_the_logger(tmp_path):
    trainer = train(tmp_path, LossValue(at_end=True), logger=CSVLogger(tmp_path, name="run"))
    path = tmp_path / "run" / "version_0" / "regimes" / "records.jsonl"
    assert json.loads(path.read_text().splitlines()[0])["diagnostic"] == "hessian"
    assert trainer.callback_metrics["hessian/trace"] > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "`every_n_steps` is at least 1"),
        ({"every_n_epochs": 0}, "`every_n_epochs` is at least 1"),
        ({"num_batches": 0}, "`num_batches` is at least 1"),
        ({"overhead_budget": -1.0}, "`overhead_budget`"),
        ({"on_error": "ignore"}, "`on_error`"),
    ],
)
def test_unusable_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        LossValue(**options)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("FSDPStrategy", "FSDPStrategy shards the parameters"),
        ("DeepSpeedStrategy", "DeepSpeedStrategy shards the parameters"),
        ("ModelParallelStrategy", "ModelParallelStrategy shards the parameters"),
        ("SingleDeviceStrategy", "SingleDeviceStrategy with 2 processes is not supported"),
    ],
)
def test_strategies_that_do_not_keep_the_model_whole_are_refused_before_training(name, message):
    # DeepSpeed's strategy is one of DDP by its bases, and shards all the same.
    strategy = type(name, (type("DDPStrategy", (), {}),) if name == "DeepSpeedStrategy" else (), {})()
    trainer = type("Two", (), {"world_size": 2, "strategy": strategy})()
    with pytest.raises(ProbeError, match=message):
        LossValue().on_fit_start(trainer, BoringModel())
