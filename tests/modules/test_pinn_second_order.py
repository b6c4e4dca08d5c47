"""Newton steps under the Trainer: the graph of the gradients, the loss they reach, and resuming."""

import gc
import warnings
import weakref
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from lightning_regimes.datamodules import Collocation
from lightning_regimes.modules import PINN, RegionSampling
from lightning_regimes.networks import MLP
from lightning_regimes.optim import NNCG, AdamFactory, NNCGFactory, OptimizerFactory, SGDFactory, SharpnessAwareFactory
from lightning_regimes.pde import Convection, differentiable

SMALL_NNCG = NNCGFactory(rank=10, update_frequency=4, cg_max_iterations=15)


def pinn(optimizer: OptimizerFactory, width: int = 8, **options: Any) -> PINN:
    torch.manual_seed(0)
    return PINN(Convection(beta=1.0), MLP(2, 1, hidden_sizes=(width, width)), optimizer=optimizer, **options)


def points(num_interior: int = 32) -> Collocation:
    return Collocation(num_interior=num_interior, steps_per_epoch=5, num_validation=32)


def trainer(max_steps: int, **options: Any) -> L.Trainer:
    silent = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "max_epochs": -1,
        "log_every_n_steps": 1,
        "limit_val_batches": 0,
    }
    return L.Trainer(max_steps=max_steps, **{**silent, **options})


def parameters_of(module: torch.nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach()


def test_newton_steps_let_go_of_their_points(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves: list[weakref.ref[torch.Tensor]] = []

    def remembered(points: torch.Tensor) -> torch.Tensor:
        leaf = differentiable(points)
        leaves.append(weakref.ref(leaf))
        return leaf

    monkeypatch.setattr("lightning_regimes.pde.convection.differentiable", remembered)
    trainer(3).fit(pinn(SMALL_NNCG), points())
    gc.collect()
    assert len(leaves) > 3
    assert not any(leaf() is not None for leaf in leaves)


def test_newton_steps_lower_the_loss_where_adam_has_settled() -> None:
    first = pinn(AdamFactory(lr=3e-3), width=20)
    runner = trainer(200)
    runner.fit(first, points(200))
    runner_state = runner.optimizers[0].state_dict()
    batch = Collocation(first.problem, num_interior=200).training_batch()
    start = first.diagnostic_loss(batch).item()

    second = pinn(NNCGFactory(update_frequency=5, cg_max_iterations=50), width=20)
    second.load_state_dict(first.state_dict())
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*create_graph.*")
        trainer(10).fit(second, points(200))
    assert second.diagnostic_loss(batch).item() < start / 10

    class Continued(PINN):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            optimizer.load_state_dict(runner_state)
            return optimizer

    torch.manual_seed(0)
    network = MLP(2, 1, hidden_sizes=(20, 20))
    adam = Continued(Convection(beta=1.0), network, optimizer=AdamFactory(lr=3e-3))
    adam.load_state_dict(first.state_dict())
    trainer(10).fit(adam, points(200))
    assert adam.diagnostic_loss(batch).item() > start / 2


@pytest.mark.parametrize("factory", [SMALL_NNCG, SharpnessAwareFactory(base=SGDFactory(momentum=0.9))], ids=repr)
def test_resumed_run_equals_the_uninterrupted_one(factory: OptimizerFactory, tmp_path: Path) -> None:
    whole = pinn(factory)
    trainer(9).fit(whole, points())
    first = pinn(factory)
    runner = trainer(5)
    runner.fit(first, points())
    runner.save_checkpoint(tmp_path / "middle.ckpt")
    second = pinn(factory)
    trainer(9).fit(second, points(), ckpt_path=tmp_path / "middle.ckpt", weights_only=True)
    assert torch.equal(parameters_of(second), parameters_of(whole))


def test_graph_is_built_for_the_direction_only() -> None:
    built: list[bool] = []

    class Watch(L.Callback):
        def on_after_backward(self, runner: L.Trainer, module: L.LightningModule) -> None:
            built.append(all(p.grad is not None and p.grad.requires_grad for p in module.parameters()))

    runner = trainer(1, callbacks=[Watch()])
    runner.fit(pinn(SMALL_NNCG), points())
    optimizer = runner.optimizers[0]
    assert isinstance(optimizer, NNCG)
    assert optimizer.last_step is not None
    assert built == [True] + [False] * (optimizer.last_step.num_evaluations - 1)
    built.clear()
    trainer(2, callbacks=[Watch()]).fit(pinn(AdamFactory()), points())
    assert built == [False, False]


def test_region_sampling_sees_gradients_without_a_graph() -> None:
    module = pinn(SMALL_NNCG, region_sampling=RegionSampling(window=3))
    trainer(3).fit(module, points())
    assert module.trust_region is not None
    assert not module.trust_region.gradients.requires_grad
    assert bool(torch.isfinite(parameters_of(module)).all())


class Foreign(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = MLP(2, 1, hidden_sizes=(8,))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        inputs = batch["interior"]
        loss: torch.Tensor = (self.network(inputs) - inputs.prod(1, keepdim=True)).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return NNCG(self.parameters(), rank=5, mu=1e-3)


class Prepared(Foreign):
    def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        loss.backward(create_graph=optimizer.needs_gradient_graph)


def test_foreign_module_is_told_what_to_write_and_then_trains() -> None:
    data = Collocation(Convection(beta=1.0), num_interior=32, steps_per_epoch=5)
    with pytest.raises(ValueError, match=r"def backward\(self, loss, \*args, \*\*kwargs\)"):
        trainer(1).fit(Foreign(), data)
    with pytest.raises(ValueError, match="accumulate_grad_batches"):
        trainer(1, accumulate_grad_batches=2).fit(Prepared(), data)
    module = Prepared()
    batch = data.training_batch()
    before = module.training_step(batch, 0).item()
    trainer(5).fit(module, data)
    assert module.training_step(batch, 0).item() < 0.1 * before
