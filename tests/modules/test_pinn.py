"""The module: its loss term by term, every Trainer entry point, checkpoints, and the hooks of diagnostics."""

import copy
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from torch.func import functional_call

from lightning_regimes.callbacks import FieldSnapshot, RegimeDetection
from lightning_regimes.datamodules import Collocation
from lightning_regimes.metrics import relative_error
from lightning_regimes.modules import PINN, AugmentedLagrangian, Curriculum, RegionSampling
from lightning_regimes.networks import MLP
from lightning_regimes.optim import AdamFactory, AdamThenLBFGSFactory, LBFGSFactory
from lightning_regimes.pde import Burgers, Convection, Problem, Reaction, Wave, heldout_points
from lightning_regimes.recording import read_records

PARTS: dict[str, dict[str, Any]] = {
    "soft": {},
    "hard": {"constraints": "hard"},
    "augmented_lagrangian": {
        "constraints": "augmented_lagrangian",
        "augmented_lagrangian": AugmentedLagrangian(every_n_steps=3, max_updates=3),
    },
    "curriculum": {"curriculum": Curriculum(start=0.5, num_stages=3, steps_per_stage=4)},
    "region_sampling": {"region_sampling": RegionSampling(window=3)},
}


def small(problem: Problem | None = None, **options: Any) -> PINN:
    torch.manual_seed(0)
    problem = problem or Convection(beta=2.0)
    return PINN(problem, MLP(2, 1, hidden_sizes=(12, 12)), **options)


def points(**options: Any) -> Collocation:
    return Collocation(**{"num_interior": 64, "steps_per_epoch": 5, "num_validation": 64, **options})


def trainer(**options: Any) -> L.Trainer:
    silent = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": -1,
        "log_every_n_steps": 1,
    }
    return L.Trainer(**{**silent, **options})


def parameters_of(module: PINN) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach()


def test_loss_is_the_weighted_sum_of_its_terms() -> None:
    module = small(Convection(beta=3.0), weights={"initial": 10.0}).double()
    batch = {name: entry.double() for name, entry in Collocation(module.problem).training_batch().items()}
    network = module.network

    inside = batch["interior"].clone().requires_grad_()
    (slope,) = torch.autograd.grad(network(inside).sum(), inside)
    equation = (slope[:, 1] + 3.0 * slope[:, 0]).square().mean()
    initial = (network(batch["initial"])[:, 0] - torch.sin(batch["initial"][:, 0])).square().mean()
    upper = batch["periodic"] + torch.tensor([2 * torch.pi, 0.0], dtype=torch.float64)
    periodic = (network(batch["periodic"]) - network(upper)).square().mean()
    expected = equation + 10 * initial + periodic
    assert module.diagnostic_loss(batch).item() == pytest.approx(expected.item(), rel=1e-12)
    assert module.plain_loss(batch).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("problem", "expected"), [(Convection(), 0.49805), (Reaction(), 0.22069), (Wave(), 0.62257)], ids=repr
)
@pytest.mark.parametrize("constraints", ["soft", "hard", "augmented_lagrangian"])
def test_trivial_loss(problem: Problem, expected: float, constraints: Any) -> None:
    # On the 257 initial points both ends count, hence 256/257 of 0.5, 0.2216 and (with the trapezoid's half) 0.625.
    module = small(problem, constraints=constraints)
    assert module.trivial_loss(Collocation(problem).training_batch()).item() == pytest.approx(expected, abs=1e-4)


def test_exact_solution_has_neither_loss_nor_error() -> None:
    class Exact(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.offset = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

        def forward(self, at: torch.Tensor) -> torch.Tensor:
            return Convection(beta=7.0).solution(at) + self.offset

    module = PINN(Convection(beta=7.0), Exact())
    assert module.heldout_loss().item() < 1e-25
    assert module.reference_error().item() < 1e-14
    with torch.no_grad():
        module.network.get_parameter("offset").add_(0.1)
    # Only the initial condition sees a constant.
    assert module.heldout_loss().item() == pytest.approx(0.01, rel=1e-9)


class Unsolved(Convection):
    """The convection equation, as if nobody knew its solution."""

    def solution(self, points: torch.Tensor) -> None:  # type: ignore[override]
        return None


@pytest.mark.parametrize("constraints", ["soft", "hard"])
def test_the_error_is_estimated_without_the_solution(constraints: Any) -> None:
    optimizer = LBFGSFactory(max_iter=20)
    module = small(Convection(beta=3.0), constraints=constraints, optimizer=optimizer)
    trainer(max_steps=6).fit(module, points(num_interior=256))
    error, estimate = module.reference_error(), module.estimated_error()
    assert error is not None
    assert estimate is not None
    assert 1e-4 < error < 0.3
    assert estimate.item() == pytest.approx(error.item(), rel=0.05)
    corrected = module.corrected_field()
    assert corrected is not None
    at = module.problem.evaluation_points()
    with torch.no_grad():
        next(module.network.parameters()).mul_(1.1)
        assert relative_error(corrected(at), module.problem.solution(at)) < error / 10
        next(module.network.parameters()).div_(1.1)
    blind = small(Unsolved(beta=3.0), constraints=constraints)
    blind.load_state_dict(module.state_dict())
    estimate = module.estimated_error()
    assert blind.reference_error() is None
    assert blind.estimated_error() == estimate
    with torch.inference_mode():
        assert blind.estimated_error() == estimate


def test_far_from_a_solution_there_is_no_estimate() -> None:
    # A field that is zero nearly everywhere, where the equation is satisfied and the linearised one leads nowhere.
    module = small(Reaction(rho=5.0))
    with torch.no_grad():
        [*module.network.parameters()][-2].mul_(0.01)
    assert module.estimated_error() is None


class Normalized(torch.nn.Module):
    """A network with statistics and with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(2, 12),
            torch.nn.BatchNorm1d(12),
            torch.nn.Tanh(),
            torch.nn.Dropout(0.1),
            torch.nn.Linear(12, 1),
        )

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return self.layers(points)


def test_an_estimate_after_training_draws_nothing_and_leaves_statistics_and_modes() -> None:
    torch.manual_seed(0)
    module = PINN(Unsolved(beta=1.0), Normalized())
    trainer(max_steps=3).fit(module, points())
    module.train()
    before, random = copy.deepcopy(module.state_dict()), torch.get_rng_state()
    estimate = module.estimated_error()
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(entry, before[name]) for name, entry in module.state_dict().items())
    assert all(entry.training for entry in module.modules())
    assert module.estimated_error() == estimate


class NotANumber(Unsolved):
    """Its source is missing where x is large."""

    def residual(self, field: Any, at: torch.Tensor) -> torch.Tensor:
        residual = super().residual(field, at)
        return residual + torch.where(at[:, :1] > 6.2, torch.nan, 0.0)


def test_a_residual_that_is_no_number_has_no_estimate() -> None:
    module = small(NotANumber(beta=3.0))
    with pytest.raises(ValueError, match="not finite"):
        module.estimated_error()
    with pytest.warns(UserWarning, match="without an estimate"):
        assert "estimated_error" not in module.field_on_grid()


class WithoutCoefficient(Unsolved):
    """Nothing makes it hard."""

    coefficient: ClassVar[str | None] = None  # type: ignore[assignment]


def test_a_problem_without_a_coefficient_has_its_own_difficulty_only() -> None:
    module = small(WithoutCoefficient(beta=3.0))
    assert small().has_difficulty
    assert not module.has_difficulty
    module.set_difficulty(1.0)
    assert module.current_problem is module.problem
    with pytest.raises(ValueError, match="coefficient"):
        module.set_difficulty(0.5)


def test_what_few_directions_leave_more_of_them_correct(monkeypatch: pytest.MonkeyPatch) -> None:
    module = small(optimizer=LBFGSFactory(max_iter=20))
    trainer(max_steps=6).fit(module, points(num_interior=256))
    error = module.reference_error()
    assert error is not None
    of = "lightning_regimes.modules.corrected_field."
    monkeypatch.setattr(f"{of}_FIRST", (50, 128))
    monkeypatch.setattr(f"{of}_SECOND", (50, 128))
    assert module.estimated_error() is None
    monkeypatch.setattr(f"{of}_SECOND", (400, 512))
    estimate = module.estimated_error()
    assert estimate is not None
    assert estimate.item() == pytest.approx(error.item(), rel=0.05)
    monkeypatch.setattr(f"{of}_MOST_DISAGREEMENT", 1e-4)
    assert module.estimated_error() is None


def test_an_equation_without_a_known_solution_is_trained_and_judged(tmp_path: Path) -> None:
    module = small(Unsolved(beta=3.0), optimizer=LBFGSFactory(max_iter=20))
    callbacks = [RegimeDetection(overhead_budget=0), FieldSnapshot()]
    runner = trainer(max_steps=9, callbacks=callbacks, default_root_dir=tmp_path)
    runner.fit(module, points(num_interior=256))
    assert "val/loss" in runner.callback_metrics
    assert "val/rel_l2" not in runner.callback_metrics
    maps = module.field_on_grid()
    assert "reference" not in maps
    at = module.problem.evaluation_points()
    error = module(at.float()).detach() - Convection(beta=3.0).solution(at)
    assert relative_error(maps["estimated_error"].reshape(-1, 1), error).item() < 0.2
    (path,) = tmp_path.rglob("records.jsonl")
    records = {record.diagnostic: record for record in read_records(path.parent.parent)}
    regime, field = records["regime"], records["field"]
    estimate = module.estimated_error()
    assert estimate is not None
    assert regime.scalars["regime/estimated_error"] == pytest.approx(estimate.item(), rel=1e-6)
    assert "regime/test_error" not in regime.scalars
    assert regime.context["evidence_source"] == "estimated_error"
    assert regime.text["regime/label"] == ("WELL_TRAINED" if estimate <= 0.05 else "OVER_TRAINED")
    assert "field/rel_l2" not in field.scalars
    assert np.array_equal(field.arrays["field/estimated_error"], maps["estimated_error"].numpy())


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("part", PARTS)
def test_every_entry_point_of_the_trainer(part: str, inference_mode: bool) -> None:
    module = small(Burgers(nu=0.1) if part == "soft" else None, **PARTS[part])
    runner = trainer(max_steps=12, inference_mode=inference_mode)
    before = module.heldout_loss().item()
    runner.fit(module, points())
    assert module.heldout_loss().item() < before
    terms = {f"train/{name}" for name in module.terms.names}
    assert {"train/loss", "val/loss", "val/rel_l2", *terms} <= set(runner.callback_metrics)
    (validated,) = runner.validate(module, points(), verbose=False)
    (tested,) = runner.test(module, points(), verbose=False)
    assert validated["val/loss"] == tested["test/loss"]
    assert validated["val/rel_l2"] == pytest.approx(module.reference_error().item())
    predictions = runner.predict(module, points())
    assert predictions is not None
    (predicted,) = predictions
    assert isinstance(predicted, torch.Tensor)
    solution = module.problem.solution(module.problem.evaluation_points())
    assert relative_error(predicted, solution).item() == pytest.approx(validated["val/rel_l2"], rel=1e-5)


def test_logged_terms_add_up() -> None:
    module = small(weights={"initial": 3.0})
    runner = trainer(max_steps=3)
    runner.fit(module, points())
    logged = runner.callback_metrics
    terms = torch.stack([logged[f"train/{name}"] for name in module.terms.names])
    assert terms.sum().item() == pytest.approx(logged["train/loss"].item())


def test_validation_loss_is_the_heldout_loss() -> None:
    module = small(num_heldout=64)
    (found,) = trainer().validate(module, points(), verbose=False)
    assert found["val/loss"] == pytest.approx(module.heldout_loss().item(), rel=1e-6)


@pytest.mark.parametrize("part", PARTS)
def test_diagnostics_change_nothing_and_draw_nothing(part: str) -> None:
    module = small(**PARTS[part])
    batch = Collocation(module.problem, num_interior=64).training_batch()
    state = {name: entry.clone() for name, entry in module.state_dict().items()}
    generator = torch.get_rng_state()

    def measured() -> list[torch.Tensor]:
        known = [module.diagnostic_loss(batch), module.trivial_loss(batch), module.heldout_loss()]
        found = [*known, module.reference_error(), module.estimated_error()]
        return [torch.tensor(torch.nan) if entry is None else entry for entry in found]

    first, second = measured(), measured()
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(first, second, strict=True))
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(entry, state[name]) for name, entry in module.state_dict().items())
    assert first[0].requires_grad
    with torch.no_grad():
        assert not module.diagnostic_loss(batch).requires_grad
    with torch.inference_mode():
        assert module.diagnostic_loss({name: entry.clone() for name, entry in batch.items()}).item() == first[0].item()


@pytest.mark.parametrize("part", PARTS)
def test_parameters_can_be_swapped(part: str) -> None:
    module, other = small(**PARTS[part]), small(**PARTS[part])
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.5)
    batch = Collocation(module.problem, num_interior=64).training_batch()

    class Loss(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self) -> torch.Tensor:
            return self.module.diagnostic_loss(batch)

    swapped = {f"module.{name}": parameter.detach() for name, parameter in other.named_parameters()}
    assert functional_call(Loss(), swapped, ()).item() == other.diagnostic_loss(batch).item()


@pytest.mark.parametrize(
    "factory", [AdamFactory(), LBFGSFactory(max_iter=3), AdamThenLBFGSFactory(switch_step=4, max_iter=3)], ids=repr
)
@pytest.mark.parametrize("part", PARTS)
def test_resumed_run_equals_the_uninterrupted_one(part: str, factory: Any, tmp_path: Path) -> None:
    data = {"resample_every_n_epochs": 0 if part == "augmented_lagrangian" else 1}
    whole = small(optimizer=factory, **PARTS[part])
    trainer(max_steps=15).fit(whole, points(**data))

    first = small(optimizer=factory, **PARTS[part])
    runner = trainer(max_steps=10)
    runner.fit(first, points(**data))
    runner.save_checkpoint(tmp_path / "middle.ckpt")
    second = small(optimizer=factory, **PARTS[part])
    with torch.no_grad():
        for parameter in second.parameters():
            parameter.zero_()
    trainer(max_steps=15).fit(second, points(**data), ckpt_path=tmp_path / "middle.ckpt", weights_only=True)

    assert torch.equal(parameters_of(second), parameters_of(whole))
    for name, entry in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name], entry), name


def test_adam_then_lbfgs_in_one_run() -> None:
    module = small(optimizer=AdamThenLBFGSFactory(switch_step=20, max_iter=10))
    batch = Collocation(module.problem, num_interior=64).training_batch()
    losses, rates = [], []

    class Watch(L.Callback):
        def on_train_batch_end(self, runner: L.Trainer, *_: Any) -> None:
            losses.append(module.diagnostic_loss(batch).item())
            rates.append(runner.optimizers[0].param_groups[0]["lr"])

    trainer(max_steps=30, callbacks=[Watch()]).fit(module, points())
    assert (rates[0], rates[-1]) == (1e-3, 1.0)
    assert losses[-1] < 0.1 * losses[19]


@pytest.mark.parametrize("part", PARTS)
def test_checkpoint_alone_rebuilds_the_module(part: str, tmp_path: Path) -> None:
    module = small(Convection(beta=4.0), optimizer=LBFGSFactory(max_iter=2), weights={"interior": 2.0}, **PARTS[part])
    runner = trainer(max_steps=6)
    runner.fit(module, points())
    runner.save_checkpoint(tmp_path / "trained.ckpt")
    again = PINN.load_from_checkpoint(tmp_path / "trained.ckpt", weights_only=True)
    assert again.problem == module.problem
    assert again.optimizer_factory == module.optimizer_factory
    assert again.current_problem == module.current_problem
    assert again.terms.weights == module.terms.weights
    batch = Collocation(module.problem, num_interior=64).training_batch()
    assert again.diagnostic_loss(batch).item() == module.diagnostic_loss(batch).item()


def test_checkpoint_with_a_network_of_the_users_own(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    module = PINN(Convection(), network)
    runner = trainer(max_steps=1)
    runner.fit(module, points())
    runner.save_checkpoint(tmp_path / "trained.ckpt")
    blank = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    again = PINN.load_from_checkpoint(tmp_path / "trained.ckpt", weights_only=True, network=blank)
    assert torch.equal(parameters_of(again), parameters_of(module))


def test_double_precision() -> None:
    module = small()
    trainer(max_steps=3, precision="64-true").fit(module, points())
    assert module.heldout_loss().dtype == torch.float64


def test_heldout_points_are_those_of_the_problem() -> None:
    module = small()
    batch = {name: entry.float() for name, entry in heldout_points(module.problem, 2048).items()}
    assert module.heldout_loss().item() == module.plain_loss(batch).item()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"boundary": 1.0}}, "has the terms interior, initial, periodic"),
        ({"weights": {"initial": 0.0}}, "must be positive"),
        ({"weights": {"initial": 1.0}, "constraints": "hard"}, "has the terms interior"),
        ({"weights": {"initial": 2.0}, "constraints": "augmented_lagrangian"}, "only"),
        ({"augmented_lagrangian": AugmentedLagrangian()}, "needs constraints"),
        ({"constraints": "strict"}, "constraints"),
    ],
)
def test_wrong_options_raise(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PINN(Convection(), **options)


def test_missing_points_raise() -> None:
    with pytest.raises(ValueError, match="no points for initial, periodic"):
        small().diagnostic_loss({"interior": torch.rand(3, 2)})


def test_yaml_configuration(tmp_path: Path) -> None:
    configuration = tmp_path / "experiment.yaml"
    configuration.write_text(
        """
model:
  class_path: lightning_regimes.modules.PINN
  init_args:
    problem: {class_path: lightning_regimes.pde.Wave, init_args: {c: 3.0}}
    network: {class_path: lightning_regimes.networks.MLP, init_args: {hidden_sizes: [8, 8]}}
    optimizer: {class_path: lightning_regimes.optim.AdamThenLBFGSFactory, init_args: {switch_step: 7}}
    constraints: augmented_lagrangian
    augmented_lagrangian: {penalty: 3.0}
    curriculum: {start: 1.0, num_stages: 2}
    region_sampling: {window: 4}
    weights: {interior: 2.0}
data:
  class_path: lightning_regimes.datamodules.Collocation
  init_args: {num_interior: 10, sampling: sobol}
"""
    )
    cli = LightningCLI(
        subclass_mode_model=True,
        subclass_mode_data=True,
        model_class=L.LightningModule,
        datamodule_class=L.LightningDataModule,
        run=False,
        save_config_callback=None,
        args=["--config", str(configuration), "--trainer.logger=false", "--trainer.enable_checkpointing=false"],
    )
    assert isinstance(cli.model, PINN)
    assert isinstance(cli.datamodule, Collocation)
    assert cli.model.problem == Wave(c=3.0)
    assert cli.model.optimizer_factory == AdamThenLBFGSFactory(switch_step=7)
    assert cli.model.multipliers is not None
    assert cli.model.multipliers.options == AugmentedLagrangian(penalty=3.0)
    assert cli.model.curriculum == Curriculum(start=1.0, num_stages=2)
    assert cli.model.trust_region is not None
    assert cli.model.trust_region.options == RegionSampling(window=4)
    trainer(max_steps=1).fit(cli.model, cli.datamodule)
    # The datamodule was given no problem: it takes the module's.
    assert cli.datamodule.problem == Wave(c=3.0)
