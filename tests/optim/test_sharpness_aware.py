"""The gradient comes from the perturbed weights, and everything else is that of the wrapped optimizer."""

import copy
from collections.abc import Callable
from functools import partial

import lightning as L
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.optim import NNCG, AdamFactory, SGDFactory, SharpnessAware, SharpnessAwareFactory

INPUTS = torch.linspace(-1, 1, 30, dtype=torch.float64).view(10, 3)
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def loss_of(module: nn.Module) -> torch.Tensor:
    return (module(INPUTS) - INPUTS.prod(1, keepdim=True)).square().mean()


def closure_of(module: nn.Module) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        module.zero_grad()
        loss = loss_of(module)
        loss.backward()
        return loss

    return closure


def flat(module: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_equals_two_passes_by_hand(make: Callable[..., torch.optim.Optimizer], adaptive: bool) -> None:
    module, twin = network(), network()
    optimizer = SharpnessAware(make(module.parameters()), rho=0.3, adaptive=adaptive)
    bare = make(twin.parameters())
    for _ in range(4):
        before = loss_of(module).item()
        assert optimizer.step(closure_of(module)).item() == before

        weights = flat(twin)
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss_of(twin), list(twin.parameters()))])
        scale = weights.abs() + 0.01 if adaptive else torch.ones_like(weights)
        perturbation = 0.3 * scale**2 * gradient / (scale * gradient).norm()
        # It solves max gᵀe over ‖T⁻¹ e‖ ≤ ρ, whose value is ρ ‖T g‖.
        assert (perturbation / scale).norm().item() == pytest.approx(0.3)
        nn.utils.vector_to_parameters(weights + perturbation, twin.parameters())
        closure_of(twin)()
        nn.utils.vector_to_parameters(weights, twin.parameters())
        bare.step()
        torch.testing.assert_close(flat(module), flat(twin), rtol=0, atol=1e-12)


def test_in_single_precision_too() -> None:
    module, twin = network().float(), network().float()
    inputs = INPUTS.float()
    optimizer = SharpnessAware(torch.optim.SGD(module.parameters(), lr=0.1))

    def closure() -> torch.Tensor:
        module.zero_grad()
        loss = module(inputs).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    parameters = list(twin.parameters())
    gradients = torch.autograd.grad(twin(inputs).square().mean(), parameters)
    norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    nearby = [p.detach() + 0.05 * g / norm for p, g in zip(parameters, gradients, strict=True)]
    named = dict(zip(dict(twin.named_parameters()), [p.requires_grad_() for p in nearby], strict=True))
    second = torch.autograd.grad(torch.func.functional_call(twin, named, (inputs,)).square().mean(), nearby)
    for parameter, start, gradient in zip(module.parameters(), parameters, second, strict=True):
        torch.testing.assert_close(parameter.detach(), start.detach() - 0.1 * gradient, rtol=0, atol=1e-7)


@pytest.mark.parametrize("adaptive", [False, True])
def test_weights_are_restored_bitwise(adaptive: bool) -> None:
    module = network().float()
    inputs = INPUTS.float()
    optimizer = SharpnessAware(torch.optim.SGD(module.parameters(), lr=0.0), rho=10.0, adaptive=adaptive)
    before = flat(module)
    seen = []

    def closure() -> torch.Tensor:
        module.zero_grad()
        seen.append(flat(module))
        loss = module(inputs).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert torch.equal(flat(module), before)
    assert torch.equal(seen[0], before)
    assert not torch.equal(seen[1], before)


def test_weights_are_restored_after_an_error() -> None:
    module = network()
    optimizer = SharpnessAware(torch.optim.SGD(module.parameters(), lr=0.1))
    before = flat(module)
    calls = []

    def closure() -> torch.Tensor:
        calls.append(None)
        if len(calls) == 2:
            raise RuntimeError("stop")
        return closure_of(module)()

    with pytest.raises(RuntimeError, match="stop"):
        optimizer.step(closure)
    assert torch.equal(flat(module), before)


def test_without_a_neighbourhood_it_is_the_wrapped_optimizer() -> None:
    module, twin = network(), network()
    optimizer = SharpnessAware(OPTIMIZERS["adam"](module.parameters()), rho=0.0)
    bare = OPTIMIZERS["adam"](twin.parameters())
    for _ in range(3):
        optimizer.step(closure_of(module))
        bare.step(closure_of(twin))
    assert torch.equal(flat(module), flat(twin))


@pytest.mark.parametrize("saved_by", ["sharpness_aware", "bare"])
def test_resumes_bitwise_from_either_state(saved_by: str) -> None:
    module = network()
    inner = OPTIMIZERS["adam"](module.parameters())
    optimizer = SharpnessAware(inner, rho=0.2, adaptive=True)
    optimizer.step(closure_of(module))
    saved = optimizer if saved_by == "sharpness_aware" else inner
    stored = copy.deepcopy((module.state_dict(), saved.state_dict()))
    for _ in range(3):
        optimizer.step(closure_of(module))

    again = network()
    resumed = SharpnessAware(OPTIMIZERS["adam"](again.parameters()), rho=0.7)
    resumed.step(closure_of(again))
    again.load_state_dict(stored[0])
    resumed.load_state_dict(stored[1])
    for _ in range(3):
        resumed.step(closure_of(again))
    assert torch.equal(flat(again), flat(module))


def test_state_of_a_plain_optimizer_takes_this_one_s_options() -> None:
    module = network()
    plain = OPTIMIZERS["adam"](module.parameters())
    plain.step(closure_of(module))
    optimizer = SharpnessAware(OPTIMIZERS["adam"](module.parameters()), rho=0.7, adaptive=True)
    optimizer.load_state_dict(plain.state_dict())
    assert (optimizer.param_groups[0]["rho"], optimizer.param_groups[0]["adaptive"]) == (0.7, True)
    assert optimizer.state is optimizer.optimizer.state


def test_groups_have_their_own_radius_and_unused_parameters_stay() -> None:
    first, second, unused = (nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(3))
    base = torch.optim.SGD([{"params": [first], "rho": 0.5}, {"params": [second, unused]}], lr=0.1)
    optimizer = SharpnessAware(base, rho=0.0)
    seen = []

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        seen.append((first.item(), second.item(), unused.item()))
        loss = (3 * first + 4 * second).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert seen[1] == pytest.approx((1 + 0.5 * 3 / 5, 1, 1))
    assert unused.grad is None
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    assert [group["rho"] for group in base.param_groups] == [0.5, 0.0, 0.0]


@pytest.mark.parametrize("set_to_none", [True, False])
def test_gradients_that_add_up_are_refused(set_to_none: bool) -> None:
    module = network()
    optimizer = SharpnessAware(torch.optim.SGD(module.parameters(), lr=0.1))
    before = flat(module)

    def accumulating() -> torch.Tensor:
        loss = loss_of(module)
        loss.backward()
        return loss

    with pytest.raises(ValueError, match="accumulate_grad_batches"):
        optimizer.step(accumulating)
    assert torch.equal(flat(module), before)

    def zeroing() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=set_to_none)
        return accumulating()

    optimizer.step(zeroing)
    assert bool(torch.isfinite(flat(module)).all())


def test_schedulers_reach_the_wrapped_optimizer(recwarn: pytest.WarningsRecorder) -> None:
    module = network()
    factory = SharpnessAwareFactory(base=SGDFactory(lr=0.4), rho=0.1, lr_scheduler=partial(ExponentialLR, gamma=0.5))
    made = factory(module)
    assert isinstance(made, dict)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    optimizer.step(closure_of(module))
    scheduler.step()
    assert not recwarn.list
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.2
    assert optimizer.param_groups[0]["rho"] == 0.1
    other = copy.deepcopy(optimizer)
    assert other.param_groups is other.optimizer.param_groups


def test_wrong_use_raises() -> None:
    module = network()
    base = torch.optim.SGD(module.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="`rho` must not be negative, got -1"):
        SharpnessAware(base, rho=-1)
    with pytest.raises(ValueError, match="closure"):
        SharpnessAware(base).step()
    with pytest.raises(ValueError, match="plain gradients, got NNCG"):
        SharpnessAware(NNCG(module.parameters()))
    factory = SharpnessAwareFactory(base=AdamFactory(lr_scheduler=partial(ExponentialLR, gamma=0.5)))
    with pytest.raises(ValueError, match="give it to SharpnessAwareFactory"):
        factory(module)


class Foreign(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        (inputs,) = batch
        return (self.network(inputs) - inputs.prod(1, keepdim=True)).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return SharpnessAware(torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9), rho=0.1)


def fit(module: L.LightningModule, **options: int) -> None:
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=1,
        **options,  # type: ignore[arg-type]
    )
    trainer.fit(module, DataLoader(TensorDataset(INPUTS), batch_size=5))


def test_trainer_needs_nothing_from_the_module() -> None:
    module = Foreign()
    fit(module)
    twin = network()
    optimizer = SharpnessAware(torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9), rho=0.1)
    for inputs in INPUTS.split(5):

        def closure(inputs: torch.Tensor = inputs) -> torch.Tensor:
            twin.zero_grad()
            loss = (twin(inputs) - inputs.prod(1, keepdim=True)).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
    assert torch.equal(flat(module.network), flat(twin))


def test_trainer_that_accumulates_is_told() -> None:
    with pytest.raises(ValueError, match="accumulate_grad_batches"):
        fit(Foreign(), accumulate_grad_batches=2)
