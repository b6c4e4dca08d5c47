"""The module: its loss, both kinds of gradient, what diagnostics see, and the regimes of short and long data."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.cli import LightningCLI

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import HessianSpectrum, LossLandscape, RegimeDetection
from lightning_regimes.callbacks.guided_settings import available_remedies
from lightning_regimes.curvature import HessianOperator
from lightning_regimes.datamodules import ODETrajectories
from lightning_regimes.metrics import relative_error
from lightning_regimes.modules import NeuralODE, ODESolver, PhysicsPenalty
from lightning_regimes.networks import MLP
from lightning_regimes.optim import AdamFactory, NNCGFactory
from lightning_regimes.pde import DampedPendulum, LotkaVolterra, ODESystem
from lightning_regimes.recording import read_records
from lightning_regimes.regimes import ModelFamily, Regime, RegimeThresholds, Remedy, classify, model_family


class TrueField(torch.nn.Module):
    """The right-hand side itself, plus a constant that can be trained."""

    def __init__(self, system: ODESystem) -> None:
        super().__init__()
        self.system = system
        self.offset = torch.nn.Parameter(torch.zeros(system.num_states, dtype=torch.float64))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.system.derivative(states) + self.offset


def small(**options: Any) -> NeuralODE:
    torch.manual_seed(0)
    return NeuralODE(DampedPendulum(), MLP(2, 2, hidden_sizes=(6,)), **options)


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


def trajectories(**options: Any) -> ODETrajectories:
    small_ones = {"horizon": 1.0, "rollout_horizon": 2.0, "num_trajectories": 3, "steps_per_epoch": 4, "num_heldout": 4}
    return ODETrajectories(**{**small_ones, **options})


@pytest.mark.parametrize("adjoint", [False, True])
def test_newton_steps_fit_a_linear_field(adjoint):
    # In the loss of one Euler step the weights are those of a linear regression, so one Newton step ends it.
    torch.manual_seed(0)
    linear = torch.nn.Linear(2, 2).double()
    solver = ODESolver(method="euler", adjoint=adjoint)
    optimizer = NNCGFactory(rank=6, mu=0.0, cg_tolerance=1e-12)
    module = NeuralODE(DampedPendulum(), linear, solver=solver, optimizer=optimizer)
    data = trajectories(segment_length=1)
    runner = trainer(max_steps=1, limit_val_batches=0, precision="64-true")
    runner.fit(module, data)
    assert data.full_batch
    assert model_family(module) is ModelFamily.NEURAL_ODE
    assert Remedy.NEWTON in available_remedies(runner, module)
    times, states = (data.training_batch()[name].double() for name in ("times", "states"))
    inputs = torch.cat([states[:, 0], torch.ones(len(states), 1)], dim=1)
    velocities = (states[:, 1] - states[:, 0]) / times[:, 1:]
    best = torch.linalg.lstsq(inputs, velocities).solution.T
    torch.testing.assert_close(torch.cat([linear.weight, linear.bias[:, None]], dim=1), best, rtol=1e-6, atol=1e-6)


def double_batch(system: ODESystem | None = None, **options: Any) -> dict[str, torch.Tensor]:
    torch.set_default_dtype(torch.float64)
    try:
        return trajectories(system=system or DampedPendulum(), **options).training_batch()
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("jitter", [0.0, 0.4])
@pytest.mark.parametrize("method", ["rk4", "dopri5"])
@pytest.mark.parametrize("system", [DampedPendulum(), LotkaVolterra()], ids=repr)
def test_the_true_field_has_neither_loss_nor_error(system: ODESystem, method: str, jitter: float) -> None:
    substeps = {"substeps": 4} if method == "rk4" else {"rtol": 1e-9, "atol": 1e-9}
    module = NeuralODE(system, TrueField(system), solver=ODESolver(method=method, **substeps))
    batch = double_batch(system, jitter=jitter)
    assert module.diagnostic_loss(batch).item() < 1e-13
    predicted = module(batch["states"][:, 0], batch["times"])
    torch.testing.assert_close(predicted, batch["states"], rtol=0, atol=1e-6)
    physics = PhysicsPenalty(knowledge="invariants")
    assert physics.loss(system, module.field, batch["states"]).item() < 1e-24


def test_the_loss_is_the_mean_square_of_runge_kutta_steps() -> None:
    module, batch = small().double(), double_batch(horizon=0.5, jitter=0.3)
    state, errors = batch["states"][:, 0], []
    for index, h in enumerate(batch["times"].diff(dim=1).split(1, dim=1)):
        # The 3/8 rule, which is the method of order four that `torchdiffeq` takes.
        k1 = module.network(state)
        k2 = module.network(state + h * k1 / 3)
        k3 = module.network(state + h * (k2 - k1 / 3))
        k4 = module.network(state + h * (k1 - k2 + k3))
        state = state + h * (k1 + 3 * k2 + 3 * k3 + k4) / 8
        errors.append((state - batch["states"][:, index + 1]).square().mean())
    assert module.diagnostic_loss(batch).item() == pytest.approx(torch.stack(errors).mean().item(), rel=1e-12)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("jitter", [0.0, 0.4])
@pytest.mark.parametrize(
    "options", [{"method": "dopri5", "rtol": 1e-9, "atol": 1e-11}, {"method": "rk4", "substeps": 4}], ids=str
)
def test_the_adjoint_equation_has_the_gradients_of_the_solver(options: dict, jitter: float) -> None:
    batch = double_batch(horizon=0.5, num_trajectories=2, segment_length=5, jitter=jitter)
    gradients = []
    for adjoint in (False, True):
        module = small(solver=ODESolver(adjoint=adjoint, **options)).double()
        loss = module.training_step(batch)
        gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))]))
    assert (gradients[1] - gradients[0]).norm() < 1e-5 * gradients[0].norm()


def test_diagnostics_differentiate_twice_where_training_uses_the_adjoint_equation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = double_batch(horizon=0.5, num_trajectories=2)
    module, direct = small(solver=ODESolver(adjoint=True)).double(), small().double()
    vector = torch.linspace(-1, 1, sum(p.numel() for p in module.parameters()), dtype=torch.float64)
    product = HessianOperator(LossProbe(module, [batch])) @ vector
    gradient = torch.autograd.grad(direct.diagnostic_loss(batch), list(direct.parameters()), create_graph=True)
    flat = torch.cat([entry.flatten() for entry in gradient])
    expected = torch.autograd.grad(flat @ vector, list(direct.parameters()))
    torch.testing.assert_close(product, torch.cat([entry.flatten() for entry in expected]), rtol=1e-10, atol=1e-12)
    with caplog.at_level(logging.INFO):
        trainer(max_steps=2).fit(small(solver=ODESolver(adjoint=True)), trajectories())
    assert caplog.text.count("diagnostics differentiate through the solver") == 1


def test_trivial_loss_is_that_of_states_that_stay() -> None:
    module, batch = small().double(), double_batch()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert module.trivial_loss(batch).item() == pytest.approx(module.diagnostic_loss(batch).item(), rel=1e-12)
    knowing = small(physics=PhysicsPenalty(weight=3.0)).double()
    moved = DampedPendulum().derivative(batch["states"]).square().mean()
    expected = module.trivial_loss(batch) + 3 * moved
    assert knowing.trivial_loss(batch).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("knowledge", ["right_hand_side", "invariants"])
@pytest.mark.parametrize("num_states", [0, 16])
def test_the_penalty_measures_what_the_field_does_not_know(knowledge: Any, num_states: int) -> None:
    system = LotkaVolterra()
    physics = PhysicsPenalty(knowledge=knowledge, weight=2.0, num_states=num_states)
    torch.manual_seed(0)
    module = NeuralODE(system, MLP(2, 2, hidden_sizes=(6,)), physics=physics).double()
    batch = double_batch(system)
    states = (physics.states(system).float().double() if num_states else batch["states"]).reshape(-1, 2)
    velocities = module.network(states)
    prey, predators = states.T
    if knowledge == "right_hand_side":
        expected = (velocities - system.derivative(states)).square().mean()
    else:
        slopes = torch.stack([1 - 3 / prey, 1 - 1.5 / predators], dim=1)
        expected = (slopes * velocities).sum(dim=1).square().mean()
    terms = module.loss_components(batch)
    assert terms["physics"].item() == pytest.approx(2 * expected.item(), rel=1e-10)
    assert module.diagnostic_loss(batch).item() == pytest.approx(sum(term.item() for term in terms.values()))
    assert HessianOperator(LossProbe(module, [batch])).shape[0] == 32


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("physics", [None, PhysicsPenalty(knowledge="invariants")], ids=str)
def test_every_entry_point_of_the_trainer(physics: PhysicsPenalty | None, inference_mode: bool) -> None:
    module, data = small(physics=physics, optimizer=AdamFactory(lr=1e-2)), trajectories()
    before = small(physics=physics).diagnostic_loss(trajectories(system=module.system).training_batch())
    runner = trainer(max_steps=24, inference_mode=inference_mode)
    runner.fit(module, data)
    assert module.diagnostic_loss(data.training_batch()) < before
    assert {"train/loss", "val/loss", "val/rollout_rel_l2"} <= set(runner.callback_metrics)
    (validated, rolled) = runner.validate(module, data, verbose=False)
    assert validated["val/loss"] == pytest.approx(module.diagnostic_loss(data.heldout_batch()).item(), rel=1e-6)
    rollouts = data.rollout_batch("val")
    assert module.heldout_loss().item() == pytest.approx(module.diagnostic_loss(rollouts).item(), rel=1e-6)
    assert "val/rollout_rel_l2" in rolled
    (tested,) = runner.test(module, data, verbose=False)
    assert tested["test/rollout_rel_l2"] == pytest.approx(module.reference_error().item(), rel=1e-6)
    (predicted,) = runner.predict(module, data)
    assert module.estimated_error().item() == pytest.approx(
        relative_error(module(rollouts["states"][:, 0], rollouts["times"]), rollouts["states"]).item(), rel=1e-6
    )
    reference = data.rollout_batch("test")["states"]
    assert relative_error(predicted, reference).item() == pytest.approx(tested["test/rollout_rel_l2"], rel=1e-6)


def test_diagnostics_run_and_regime_detection_reads_the_rollouts(tmp_path: Path) -> None:
    callbacks = [
        HessianSpectrum(k=2, at_end=True, on_error="raise"),
        LossLandscape(dim=1, points=5, at_end=True, on_error="raise"),
        RegimeDetection(thresholds=RegimeThresholds(error=0.1), estimate_error=True, on_error="raise"),
    ]
    module, data = small(), trajectories()
    trainer(max_steps=6, callbacks=callbacks, default_root_dir=tmp_path).fit(module, data)
    (run,) = {path.parent.parent for path in tmp_path.rglob("records.jsonl")}
    records = {record.diagnostic: record for record in read_records(run)}
    assert {"hessian", "landscape", "regime"} <= records.keys()
    regime = records["regime"]
    assert regime.context["evidence_source"] == "reference_error"
    assert regime.context["reference_source"] == "trivial_loss"
    assert regime.context["thresholds"]["error"] == 0.1
    assert regime.scalars["regime/test_error"] == pytest.approx(module.reference_error().item())
    assert regime.scalars["regime/estimated_error"] == pytest.approx(module.estimated_error().item())
    heldout = module.heldout_loss().item()
    assert regime.scalars["regime/heldout_loss"] == pytest.approx(heldout)
    states = data.rollout_batch("val")["states"]
    scale = (states[:, 1:] - states[:, :1]).square().mean().item()
    assert regime.scalars["regime/normalized_heldout_loss"] == pytest.approx(heldout / scale)


def test_the_trivial_loss_is_that_of_rest_over_short_times_and_of_the_mean_over_long_ones() -> None:
    times = torch.linspace(0, 40 * torch.pi, 4001)
    states = torch.stack([times.cos(), -times.sin()], dim=-1)
    whole = {"times": times.expand(2, -1), "states": torch.stack([states, -states])}
    short = {name: entry[:, :11] for name, entry in whole.items()}
    module = small()
    # A rotation over many turns: its variance is half the mean square of its chords, which is 1.
    assert module.trivial_loss(whole).item() == pytest.approx(0.5, rel=1e-3)
    angle = times[1:11].double()
    assert module.trivial_loss(short).item() == pytest.approx((1 - angle.cos()).mean().item(), rel=1e-4)


def test_a_rollout_that_explodes_has_an_infinite_error() -> None:
    module = small(solver=ODESolver(method="dopri5", max_num_steps=20))
    data = trajectories()
    trainer(max_steps=1).fit(module, data)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1e6)
    with pytest.warns(UserWarning, match="counts as infinite"):
        assert module.reference_error().item() == torch.inf
    with pytest.warns(UserWarning, match="counts as infinite"):
        assert module.estimated_error().item() == torch.inf


def test_a_checkpoint_alone_rebuilds_the_module(tmp_path: Path) -> None:
    module = small(solver=ODESolver(substeps=2), physics=PhysicsPenalty(num_states=8), optimizer=AdamFactory(lr=3e-3))
    runner = trainer(max_steps=2)
    runner.fit(module, trajectories())
    runner.save_checkpoint(tmp_path / "trained.ckpt")
    again = NeuralODE.load_from_checkpoint(tmp_path / "trained.ckpt", weights_only=True)
    assert (again.system, again.solver, again.physics) == (module.system, module.solver, module.physics)
    assert again.optimizer_factory == module.optimizer_factory
    batch = trajectories(system=DampedPendulum()).training_batch()
    assert again.diagnostic_loss(batch).item() == module.diagnostic_loss(batch).item()


def test_yaml_configuration(tmp_path: Path) -> None:
    configuration = tmp_path / "experiment.yaml"
    configuration.write_text(
        """
model:
  class_path: lightning_regimes.modules.NeuralODE
  init_args:
    system: {class_path: lightning_regimes.pde.VanDerPol, init_args: {mu: 2.0}}
    solver: {method: dopri5, rtol: 1.0e-6, adjoint: true}
    physics: {knowledge: invariants, weight: 0.5}
data:
  class_path: lightning_regimes.datamodules.ODETrajectories
  init_args: {horizon: 1.0, rollout_horizon: 1.0, initial_states: [[1.0, 0.0]]}
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
    assert cli.model.solver == ODESolver(method="dopri5", rtol=1e-6, adjoint=True)
    assert cli.model.physics == PhysicsPenalty(knowledge="invariants", weight=0.5)
    trainer(max_steps=1).fit(cli.model, cli.datamodule)
    assert cli.datamodule.system == cli.model.system


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NeuralODE(), "needs a `network`"),
        (lambda: NeuralODE(network=MLP(2, 2), physics=PhysicsPenalty()), "needs the `system`"),
        (lambda: PhysicsPenalty(knowledge="energy"), "`knowledge`"),  # type: ignore[arg-type]
        (lambda: PhysicsPenalty(weight=0.0), "`weight`"),
        (lambda: PhysicsPenalty(num_states=-1), "`num_states`"),
    ],
)
def test_wrong_options_raise(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def trained(horizon: float, *, inverse_damping: float = 1.0, seed: int = 0) -> tuple[Regime, float]:
    torch.manual_seed(seed)
    module = NeuralODE(DampedPendulum(1 / inverse_damping), optimizer=AdamFactory(lr=1e-2))
    data = ODETrajectories(initial_states=[[2.0, 0.0]], horizon=horizon, seed=seed)
    trainer(max_steps=400, limit_val_batches=0).fit(module, data)
    batch, error = data.training_batch(), module.reference_error().item()
    report = classify(
        module.diagnostic_loss(batch).item(),
        reference_loss=module.trivial_loss(batch).item(),
        error=error,
        thresholds=RegimeThresholds(error=0.1),
    )
    return report.label, error


@pytest.mark.slow
def test_a_long_trajectory_teaches_the_pendulum_and_a_short_one_does_not() -> None:
    label, error = trained(20.0)
    assert label is Regime.WELL_TRAINED
    assert error <= 0.12
    assert trained(1.0)[0] is Regime.OVER_TRAINED
    assert trained(20.0, inverse_damping=12.0)[1] > error
