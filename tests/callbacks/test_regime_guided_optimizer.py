"""What guidance decides, that it changes nothing before, and that it can go back and go on."""

import math
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.callbacks import RegimeDetection, RegimeGuidedOptimizer
from lightning_regimes.callbacks.guided_curriculum import CurriculumSchedule
from lightning_regimes.callbacks.guided_decision import Situation, decide
from lightning_regimes.callbacks.guided_settings import GuidedSettings, apply_to_problem, available_remedies
from lightning_regimes.datamodules import Collocation
from lightning_regimes.modules import PINN
from lightning_regimes.networks import MLP
from lightning_regimes.optim import AdamFactory, NNCGFactory
from lightning_regimes.pde import Burgers, Convection
from lightning_regimes.recording import read_records
from lightning_regimes.regimes import Regime, Remedy

SMALL_NEWTON = NNCGFactory(rank=5, cg_max_iterations=5)
EVERYTHING = frozenset(Remedy)


def situation(regime, **changes):
    values: dict[str, Any] = {
        "normalized_loss": 0.001,
        "normalized_heldout_loss": 0.001,
        "earlier_loss": 0.001,
        "optimizer": "own",
        "num_gradients": 1000,
        "warm_up": 500,
        "available": EVERYTHING,
    }
    return Situation(regime=regime, **{**values, **changes})


@pytest.mark.parametrize(
    ("regime", "changes", "remedy"),
    [
        (Regime.UNDER_TRAINED, {}, Remedy.QUASI_NEWTON),
        (Regime.UNDER_TRAINED, {"num_gradients": 499}, None),
        (Regime.UNDER_TRAINED, {"used_up": {Remedy.QUASI_NEWTON}}, Remedy.CURRICULUM),
        (Regime.UNDER_TRAINED, {"available": {Remedy.CURRICULUM}}, Remedy.CURRICULUM),
        (Regime.UNDER_TRAINED, {"optimizer": "quasi_newton"}, Remedy.CURRICULUM),
        (Regime.UNDER_TRAINED, {"optimizer": "quasi_newton", "earlier_loss": 0.01}, None),
        (
            Regime.UNDER_TRAINED,
            {"used_up": {Remedy.CURRICULUM}, "optimizer": "quasi_newton"},
            Remedy.AUGMENTED_LAGRANGIAN,
        ),
        (Regime.OVER_TRAINED, {}, Remedy.MORE_POINTS),
        (Regime.OVER_TRAINED, {"used_up": {Remedy.MORE_POINTS}}, Remedy.WEIGHT_DECAY),
        (
            Regime.OVER_TRAINED,
            {"used_up": {Remedy.MORE_POINTS}, "normalized_heldout_loss": 60.0},
            Remedy.CURRICULUM,
        ),
        (Regime.OVER_TRAINED, {"available": {Remedy.QUASI_NEWTON}}, None),
        (Regime.WELL_TRAINED, {}, Remedy.QUASI_NEWTON),
        (Regime.WELL_TRAINED, {"optimizer": "quasi_newton"}, Remedy.DOUBLE_PRECISION),
        (Regime.WELL_TRAINED, {"optimizer": "quasi_newton", "used_up": {Remedy.DOUBLE_PRECISION}}, Remedy.NEWTON),
        (
            Regime.WELL_TRAINED,
            {"optimizer": "quasi_newton", "used_up": {Remedy.DOUBLE_PRECISION}, "earlier_loss": 0.00105},
            None,
        ),
        (Regime.WELL_TRAINED, {"optimizer": "quasi_newton", "normalized_heldout_loss": 0.01}, Remedy.MORE_POINTS),
        (Regime.WELL_TRAINED, {"optimizer": "quasi_newton", "earlier_loss": None}, None),
        (Regime.WELL_TRAINED, {"optimizer": "newton"}, None),
        (Regime.DIVERGED, {}, Remedy.LOWER_LEARNING_RATE),
        (Regime.DIVERGED, {"normalized_loss": 1.9, "earlier_loss": 2.0}, None),
        (Regime.DIVERGED, {"normalized_loss": 1.9, "earlier_loss": None}, None),
        (Regime.DIVERGED, {"num_gradients": 1}, None),
        (Regime.DIVERGED, {"normalized_loss": math.nan}, None),
        (Regime.INCONSISTENT, {}, None),
        (None, {}, None),
    ],
)
def test_decisions(regime, changes, remedy):
    decision = decide(situation(regime, **changes))
    assert decision.remedy == remedy
    assert decision.reason


def test_a_stage_ends_when_it_is_fitted_or_has_had_its_share():
    schedule = CurriculumSchedule.within(1200, num_stages=3, fitted=0.01, gradients_per_stage=400)
    assert schedule.gradients_per_stage == 300
    assert CurriculumSchedule.within(math.inf, num_stages=3, fitted=0.1, gradients_per_stage=400) == CurriculumSchedule(
        3, 0.1, 400
    )
    assert schedule.is_over(0.01, 20)
    assert not schedule.is_over(0.011, 299)
    assert schedule.is_over(0.5, 300)


def trainer(folder: Path, callbacks: Any, **options: Any) -> L.Trainer:
    silent = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": -1,
        "limit_val_batches": 0,
        "log_every_n_steps": 1,
    }
    return L.Trainer(default_root_dir=folder, callbacks=callbacks, **{**silent, **options})


def pinn(beta: float = 1.0, **options: Any) -> PINN:
    torch.manual_seed(0)
    return PINN(
        Convection(beta=beta),
        MLP(2, 1, hidden_sizes=(10, 10)),
        optimizer=AdamFactory(lr=3e-3),
        num_heldout=200,
        **options,
    )


def points(num_interior: int = 50) -> Collocation:
    return Collocation(num_interior=num_interior, steps_per_epoch=7)


def guided(**options: Any) -> RegimeGuidedOptimizer:
    values: dict[str, Any] = {
        "every_n_gradients": 20,
        "warm_up": 30,
        "curriculum_stages": 3,
        "gradients_per_stage": 40,
        "newton": SMALL_NEWTON,
        "on_error": "raise",
    }
    return RegimeGuidedOptimizer(**{**values, **options})


def weights(module: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def records(folder: Path) -> list[Any]:
    (path,) = folder.rglob("records.jsonl")
    return read_records(path.parent.parent)


def test_until_it_acts_the_training_is_bitwise_the_same(tmp_path):
    bare, watched = pinn(30.0), pinn(30.0)
    first, second = trainer(tmp_path / "bare", [], max_steps=60), trainer(tmp_path, [guided(warm_up=61)], max_steps=60)
    torch.manual_seed(0)
    first.fit(bare, points())
    rng = torch.get_rng_state()
    torch.manual_seed(0)
    second.fit(watched, points())
    assert torch.equal(weights(bare), weights(watched))
    assert torch.equal(rng, torch.get_rng_state())
    for mine, theirs in zip(
        second.optimizers[0].state_dict()["state"].values(),
        first.optimizers[0].state_dict()["state"].values(),
        strict=True,
    ):
        assert torch.equal(mine["exp_avg_sq"], theirs["exp_avg_sq"])
    found = records(tmp_path)
    assert [record.text["guided/decision"] for record in found] == ["none"] * 3
    assert "warm-up" in found[0].context["decision_reason"]
    assert not list(tmp_path.rglob("before_*"))


def test_an_under_trained_network_goes_through_a_curriculum(tmp_path):
    module, callback, data = pinn(20.0), guided(max_gradients=220, at_end=False), points()
    seen: list[float] = []
    starts: dict[str, torch.Tensor] = {}

    class Watch(L.Callback):
        def on_train_batch_start(self, runner: L.Trainer, *_: Any) -> None:
            if module.current_problem.beta not in seen:
                seen.append(module.current_problem.beta)
            if callback.decisions:
                starts.setdefault(callback.decisions[-1]["decision"], weights(module))

    runner = trainer(tmp_path, [callback, Watch()])
    runner.fit(module, data)
    # L-BFGS first; where it settles too early, the curriculum starts from the weights of before it.
    assert [entry["decision"] for entry in callback.decisions] == ["quasi_newton", "curriculum"]
    assert torch.equal(starts["quasi_newton"], starts["curriculum"])
    assert seen == pytest.approx([20.0, 20 / 3, 40 / 3])
    assert callback.decisions[0]["num_gradients"] == 40
    assert module.current_problem is module.problem
    assert isinstance(runner.optimizers[0], torch.optim.LBFGS)
    assert not torch.equal(data.training_batch()["interior"], points_of(module))
    checkpoint = torch.load(tmp_path / callback.decisions[0]["checkpoint"], weights_only=True)
    assert checkpoint["global_step"] == 40
    assert 190 < callback.num_gradients <= 220
    decided = [record for record in records(tmp_path) if record.text["guided/decision"] == "curriculum"]
    assert decided[0].scalars["guided/num_gradients"] == callback.decisions[1]["num_gradients"]
    assert decided[0].context["decision_reason"].startswith("under-trained")


def points_of(module: PINN) -> torch.Tensor:
    return Collocation(module.problem, num_interior=50).training_batch()["interior"]


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    whole, callback, middle = pinn(20.0), guided(), tmp_path / "middle.ckpt"

    class Save(L.Callback):
        def on_train_batch_end(self, runner: L.Trainer, *_: Any) -> None:
            if runner.global_step == 43:
                assert 0 < callback.settings.stage < callback.settings.num_stages
                runner.save_checkpoint(middle)

    trainer(tmp_path / "whole", [callback, Save()], max_steps=48).fit(whole, points())
    second, resumed = pinn(20.0), guided()
    trainer(tmp_path / "second", [resumed], max_steps=48).fit(second, points(), ckpt_path=middle, weights_only=True)
    assert [entry["decision"] for entry in resumed.decisions[:2]] == ["quasi_newton", "curriculum"]
    assert torch.equal(weights(second), weights(whole))


def test_newton_steps_are_counted_in_gradients(tmp_path):
    module = pinn(1.0)
    callback = guided(warm_up=0, every_n_gradients=40)
    runner = trainer(tmp_path, [callback], max_steps=41)
    runner.fit(module, points())
    before, products = callback.num_gradients, 0
    assert before == callback._num_gradients
    callback.training.change(runner, module, callback.settings.changed(optimizer="newton"), optimizer_anew=True)
    assert type(runner.optimizers[0]).__name__ == "NNCG"
    runner.optimizers[0].state[next(module.parameters())]["num_products"] = 7
    callback.training.count_products(runner)
    callback.training.count_products(runner)
    products = callback.num_gradients - before
    assert products == 14


def test_products_are_counted_once_across_a_resume_and_a_change_of_points(tmp_path):
    class Newton(RegimeGuidedOptimizer):
        """Begins with Newton steps, and has twice as many points after the fourth."""

        def on_fit_start(self, runner: L.Trainer, module: L.LightningModule) -> None:
            self.training.settings = self.settings.changed(optimizer="newton")
            super().on_fit_start(runner, module)

        def on_train_batch_end(self, runner: L.Trainer, module: L.LightningModule, *entries: Any) -> None:
            super().on_train_batch_end(runner, module, *entries)
            spent.append(runner.optimizers[0].last_step.num_products)
            if runner.global_step == 4:
                self._change(runner, module, self.settings.changed(factor=2, draw=1), optimizer_anew=True)

    def run(max_steps: int, path: Path | None = None) -> Newton:
        callback = Newton(warm_up=1000, every_n_gradients=1000, at_end=False, newton=SMALL_NEWTON)
        runner = trainer(tmp_path, [callback], max_steps=max_steps)
        runner.fit(pinn(), points(), ckpt_path=path, weights_only=None if path is None else True)
        runner.save_checkpoint(tmp_path / "last.ckpt")
        return callback

    spent: list[int] = []
    run(3)
    resumed = run(6, tmp_path / "last.ckpt")
    assert len(spent) == 6
    assert resumed.training.product_gradients == 2 * sum(spent)


class Overflows(RegimeGuidedOptimizer):
    """Its Newton steps meet a loss that is not finite."""

    def on_train_batch_start(self, runner: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(runner, module, batch, batch_idx)
        if self.settings.optimizer == "newton":
            with torch.no_grad():
                next(module.parameters()).fill_(math.inf)


def test_polishing_goes_to_float64_and_survives_a_newton_step_that_cannot_be_taken(tmp_path):
    class Easy(PINN):
        """Claims to be well-trained and settled."""

        def plain_loss(self, batch: Any, **kwargs: Any) -> torch.Tensor:
            return torch.tensor(1e-3)

        def trivial_loss(self, batch: Any) -> torch.Tensor:
            return torch.tensor(1.0)

        def heldout_loss(self) -> torch.Tensor:
            return torch.tensor(1e-3)

    torch.manual_seed(0)
    module = Easy(Convection(beta=1.0), MLP(2, 1, hidden_sizes=(10, 10)), optimizer=AdamFactory(lr=3e-3))
    callback = Overflows(every_n_gradients=20, warm_up=30, newton=SMALL_NEWTON, on_error="raise")
    seen: list[torch.dtype] = []

    class Watch(L.Callback):
        def on_train_batch_start(self, runner: L.Trainer, module: L.LightningModule, batch: Any, _: int) -> None:
            seen.append(batch["interior"].dtype)
            assert weights(module).dtype == batch["interior"].dtype

    beside = RegimeDetection(every_n_steps=47, at_end=False, on_error="raise")
    runner = trainer(tmp_path, [callback, Watch(), beside], max_steps=48)
    with pytest.warns(RuntimeWarning, match="takes newton back at step 45: NNCG needs a finite loss"):
        runner.fit(module, points())
    decisions = [entry["decision"] for entry in callback.decisions]
    assert decisions == ["quasi_newton", "double_precision", "newton", "go_back"]
    assert callback.decisions[3]["checkpoint"].endswith("before_2_newton.ckpt")
    assert seen == [torch.float32] * 42 + [torch.float64] * 6
    assert beside._num_measurements == 1
    assert isinstance(runner.optimizers[0], torch.optim.LBFGS)
    assert runner.global_step == 48
    assert bool(torch.isfinite(weights(module)).all())
    # It is handed over in the precision that was asked for.
    assert weights(module).dtype == torch.float32
    assert runner.precision == "32-true"
    assert Remedy.NEWTON in callback._used_up


def test_what_made_the_heldout_loss_worse_is_taken_back(tmp_path):
    class Fooled(PINN):
        """Claims to be well-trained, and gets worse as soon as L-BFGS runs."""

        def plain_loss(self, batch: Any, **kwargs: Any) -> torch.Tensor:
            return 1e-3 * super().plain_loss(batch, **kwargs).detach().clamp(max=1.0)

        def trivial_loss(self, batch: Any) -> torch.Tensor:
            return torch.tensor(1.0)

        def heldout_loss(self) -> torch.Tensor:
            worse = isinstance(self.trainer.optimizers[0], torch.optim.LBFGS)
            return torch.tensor(2e-3 if worse else 1e-3)

    torch.manual_seed(0)
    module = Fooled(Convection(beta=1.0), MLP(2, 1, hidden_sizes=(10, 10)), optimizer=AdamFactory(lr=3e-3))
    callback = guided(every_n_gradients=40)
    kept: list[torch.Tensor] = []

    class Watch(L.Callback):
        def on_train_batch_end(self, runner: L.Trainer, *_: Any) -> None:
            if runner.global_step == 40:
                kept.append(weights(module))
            if len(callback.decisions) == 2 and len(kept) == 1:
                kept.append(weights(module))
                state = runner.optimizers[0].state_dict()["state"]
                assert {int(entry["step"]) for entry in state.values()} == {40}

    runner = trainer(tmp_path, [callback, Watch()], max_steps=60)
    runner.fit(module, points())
    assert [entry["decision"] for entry in callback.decisions] == ["quasi_newton", "go_back"]
    assert "held-out loss 0.002 after quasi_newton, 0.001 before" in callback.decisions[1]["reason"]
    assert torch.equal(kept[0], kept[1])
    assert isinstance(runner.optimizers[0], torch.optim.AdamW)
    assert Remedy.QUASI_NEWTON in callback._used_up


class Memorizer(L.LightningModule):
    """A regression on few samples, over-trained by construction, as anyone would write it."""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 1))
        self.lr = lr

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.mse_loss(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.mse_loss(self.network(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=0.0)


def noise(size: int, seed: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    data = TensorDataset(torch.randn(size, 20, generator=generator), torch.randn(size, 1, generator=generator))
    return DataLoader(data, batch_size=8)


def test_a_foreign_module_gets_weight_decay_and_none_of_the_remedies_of_equations(tmp_path):
    module = Memorizer()
    callback = guided(every_n_gradients=50, weight_decay=0.1)
    runner = trainer(tmp_path, [callback], max_steps=300, limit_val_batches=1.0)
    runner.fit(module, noise(16, 0), noise(64, 1))
    assert available_remedies(runner, module) == {Remedy.LOWER_LEARNING_RATE, Remedy.WEIGHT_DECAY}
    assert callback.decisions[0]["decision"] == "weight_decay"
    assert callback.decisions[0]["reason"].startswith("over-trained")
    assert isinstance(runner.optimizers[0], torch.optim.AdamW)


def test_a_diverging_training_gets_a_lower_rate(tmp_path):
    module = Memorizer(lr=3.0)
    callback = guided(warm_up=0, every_n_gradients=1)
    runner = trainer(tmp_path, [callback], max_steps=2)
    runner.fit(module, noise(16, 0))
    assert callback.decisions[0]["decision"] == "lower_learning_rate"
    assert runner.optimizers[0].param_groups[0]["lr"] == 1.5


def test_difficulty_is_a_share_of_the_coefficient_or_its_inverse():
    module = pinn(30.0)
    module.set_difficulty(0.5)
    assert module.current_problem.beta == 15.0
    module.set_difficulty(1.0)
    assert module.current_problem is module.problem
    viscous = PINN(Burgers(nu=0.01), MLP(2, 1, hidden_sizes=(4,)))
    viscous.set_difficulty(0.5)
    assert viscous.current_problem.nu == 0.02
    with pytest.raises(ValueError, match=r"`share` must be in \(0, 1\], got 0"):
        module.set_difficulty(0)


def test_multipliers_that_came_on_the_way_load_from_a_checkpoint():
    module, other = pinn(), pinn()
    module.enforce_conditions("augmented_lagrangian")
    batch = Collocation(module.problem, num_interior=20).training_batch()
    soft = other.diagnostic_loss(batch) - other.loss_components(batch)["interior"]
    # With multipliers of zero and a penalty of 2 the objective is the soft loss.
    assert module.diagnostic_loss(batch).item() == pytest.approx(other.diagnostic_loss(batch).item(), rel=1e-6)
    assert soft.item() > 0
    module.multipliers.update({"initial": torch.ones(257, 1), "periodic": torch.ones(101, 1)})
    checkpoint = {"state_dict": module.state_dict()}
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    assert other.diagnostic_loss(batch).item() == module.diagnostic_loss(batch).item()
    with pytest.raises(ValueError, match="hard"):
        pinn(constraints="hard").enforce_conditions("soft")


def test_added_points_are_others_and_as_many_as_asked_for():
    data = Collocation(Convection(), num_interior=30)
    first = data.training_batch()["interior"]
    data.renew_training_data(factor=1, draw=1)
    second = data.training_batch()["interior"]
    assert second.shape == first.shape
    assert not torch.equal(first, second)
    data.renew_training_data(factor=4, draw=2)
    assert data.training_batch()["interior"].shape == (120, 2)
    assert torch.equal(data.training_batch()["initial"], Collocation(Convection()).training_batch()["initial"])
    data.renew_training_data()
    assert torch.equal(data.training_batch()["interior"], first)
    with pytest.raises(ValueError, match="got 0 and 0"):
        data.renew_training_data(factor=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_gradients": 0}, "`every_n_gradients` is at least 1, got 0"),
        ({"warm_up": -1}, "`warm_up` is not negative, got -1"),
        ({"every_n_steps": 3}, "the schedule is `every_n_gradients`, got every_n_steps"),
        ({"estimate_error": True}, "`estimate_error` is False"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        RegimeGuidedOptimizer(**options)


class WithoutCoefficient(Convection):
    """Nothing that is known makes it hard."""

    coefficient: ClassVar[str | None] = None


@pytest.mark.parametrize(
    "problem", [Convection(beta=2.0), WithoutCoefficient(beta=2.0)], ids=lambda p: type(p).__name__
)
def test_a_curriculum_needs_a_coefficient_and_no_other_change_does(problem):
    module = PINN(problem, MLP(2, 1, hidden_sizes=(8, 8)))
    runner = L.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    runner.fit(module, Collocation(num_interior=32, num_validation=32))
    known = problem.coefficient is not None
    assert (Remedy.CURRICULUM in available_remedies(runner, module)) is known
    apply_to_problem(runner, module, GuidedSettings(factor=2))
    assert module.current_problem == problem
