"""Newton steps against dense algebra in float64, and what the optimizer does where Newton's method fails."""

import copy
import gc
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed
from torch import nn

from lightning_regimes.optim import NNCG, NNCGFactory

Loss = Callable[[], torch.Tensor]


def closure_of(optimizer: torch.optim.Optimizer, loss: Loss) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward(create_graph=getattr(optimizer, "needs_gradient_graph", False))
        return value.detach()

    return closure


def quadratic(condition: float = 1e3, size: int = 12) -> tuple[torch.Tensor, torch.Tensor, list[nn.Parameter], Loss]:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    matrix = (basis * torch.logspace(0, torch.tensor(condition).log10(), size, dtype=torch.float64)) @ basis.T
    target = torch.randn(size, generator=generator, dtype=torch.float64)
    # Two parameters, so that the order of their entries matters.
    start = torch.randn(size, generator=generator, dtype=torch.float64)
    parameters = [nn.Parameter(start[:4].view(2, 2).clone()), nn.Parameter(start[4:].clone())]

    def loss() -> torch.Tensor:
        error = torch.cat([parameter.flatten() for parameter in parameters]) - target
        return 0.5 * error @ matrix @ error

    return matrix, target, parameters, loss


def flat(parameters: Any) -> torch.Tensor:
    return nn.utils.parameters_to_vector(parameters).detach().clone()


def network(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, Loss]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)).to(dtype)
    inputs = torch.rand(32, 2).to(dtype)
    targets = torch.sin(3 * inputs[:, :1]) * inputs[:, 1:]
    return module, lambda: (module(inputs) - targets).square().mean()


@pytest.mark.parametrize("mu", [0.0, 2.0])
@pytest.mark.parametrize("rank", [3, 60])
def test_one_step_on_a_quadratic_is_the_damped_newton_step(mu: float, rank: int) -> None:
    matrix, target, parameters, loss = quadratic()
    start = flat(parameters)
    optimizer = NNCG(parameters, mu=mu, rank=rank, cg_tolerance=1e-13)
    value = optimizer.step(closure_of(optimizer, loss))
    error = start - target
    assert value.item() == pytest.approx((0.5 * error @ matrix @ error).item(), rel=1e-12)
    damped = matrix + mu * torch.eye(12, dtype=torch.float64)
    expected = start - torch.linalg.solve(damped, matrix @ error)
    torch.testing.assert_close(flat(parameters), expected, rtol=0, atol=1e-8)
    report = optimizer.last_step
    assert report is not None
    assert (report.step_size, report.num_evaluations, report.steepest_descent) == (1.0, 2, False)
    assert optimizer.num_products == report.num_products
    if rank == 60:
        assert report.num_products <= 12 + 2


def test_logistic_regression_converges_quadratically() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    chance = torch.sigmoid(inputs @ torch.linspace(-2, 2, 6, dtype=torch.float64))
    labels = (torch.rand(200, generator=generator, dtype=torch.float64) < chance).double()
    weight = nn.Parameter(torch.zeros(6, dtype=torch.float64))

    def at(point: torch.Tensor) -> torch.Tensor:
        fit = nn.functional.binary_cross_entropy_with_logits(inputs @ point, labels)
        return fit + 1e-3 * point.square().sum()

    truth = torch.zeros(6, dtype=torch.float64)
    for _ in range(30):
        gradient = torch.func.grad(at)(truth)
        truth = truth - torch.linalg.solve(torch.func.hessian(at)(truth), gradient)
    assert torch.func.grad(at)(truth).norm() < 1e-15

    optimizer = NNCG([weight], mu=0.0, rank=6, cg_tolerance=1e-12, update_frequency=3)
    errors = []
    for _ in range(8):
        optimizer.step(closure_of(optimizer, lambda: at(weight)))
        errors.append(float((weight.detach() - truth).norm()))
    near = [error for error in errors if 1e-7 < error < 0.5]
    ratios = [after / before**2 for before, after in itertools.pairwise(near)]
    assert len(ratios) >= 2, errors
    assert max(ratios) < 0.5, errors
    assert errors[-1] < 1e-13, errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_network_is_fitted_where_adam_is_not(dtype: torch.dtype) -> None:
    module, loss = network(dtype)
    optimizer = NNCG(module.parameters(), mu=1e-5, rank=20, update_frequency=5)
    start = loss().item()
    values = [optimizer.step(closure_of(optimizer, loss)).item() for _ in range(40)]
    assert values == sorted(values, reverse=True)
    assert loss().item() < 1e-4 * start
    twin, twin_loss = network(dtype)
    adam = torch.optim.Adam(twin.parameters(), lr=1e-2)
    for _ in range(40):
        adam.step(closure_of(adam, twin_loss))
    assert twin_loss().item() > 1e-2 * start


def test_loss_never_rises_from_a_point_of_negative_curvature() -> None:
    weight = nn.Parameter(torch.tensor([0.1, 1e-3], dtype=torch.float64))

    def double_well() -> torch.Tensor:
        return (weight.square() - 1).square().sum()

    optimizer = NNCG([weight], mu=1e-2, rank=2, update_frequency=1)
    values, curvatures = [], []
    for _ in range(20):
        values.append(optimizer.step(closure_of(optimizer, double_well)).item())
        assert optimizer.last_step is not None
        curvatures.append(optimizer.last_step.negative_curvature)
    assert curvatures[0]
    assert not curvatures[-1]
    assert values == sorted(values, reverse=True)
    torch.testing.assert_close(weight.detach().abs(), torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-9)


def test_weights_stay_where_no_trial_lowers_the_loss() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    calls = []

    def loss() -> torch.Tensor:
        calls.append(None)
        return weight.square().sum() + (0.0 if len(calls) == 1 else 10.0)

    optimizer = NNCG([weight], rank=1, line_search_max_trials=4)
    optimizer.step(closure_of(optimizer, loss))
    assert torch.equal(weight.detach(), torch.tensor([1.0, -2.0]))
    assert optimizer.last_step is not None
    assert (optimizer.last_step.step_size, optimizer.last_step.num_evaluations) == (0.0, 5)
    # What the trials left behind is gone: these are the gradients at the weights.
    assert weight.grad is not None
    assert torch.equal(weight.grad, 2 * weight.detach())


def test_a_trial_without_a_loss_is_no_success() -> None:
    weight = nn.Parameter(torch.tensor([0.1], dtype=torch.float64))
    optimizer = NNCG([weight], mu=0.0, rank=1, lr=4.0)

    def loss() -> torch.Tensor:
        return (weight - weight.log()).sum()

    for _ in range(12):
        optimizer.step(closure_of(optimizer, loss))
        assert bool(torch.isfinite(weight))
        assert bool(weight > 0)
    torch.testing.assert_close(weight.detach(), torch.ones(1, dtype=torch.float64), rtol=0, atol=1e-6)


def test_step_at_a_minimum_changes_nothing() -> None:
    weight = nn.Parameter(torch.zeros(3))
    optimizer = NNCG([weight], rank=2)
    optimizer.step(closure_of(optimizer, lambda: weight.square().sum()))
    assert torch.equal(weight.detach(), torch.zeros(3))


def test_unused_parameters_stay() -> None:
    weight, unused, constant = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(3))
    optimizer = NNCG([unused, weight, constant], mu=1.0, rank=3)
    optimizer.step(closure_of(optimizer, lambda: weight.square().sum() + 3 * constant.sum()))
    assert torch.equal(unused.detach(), torch.ones(2, dtype=torch.float64))
    # The Newton equations are (2 + 1) d = -2 and (0 + 1) d = -3.
    torch.testing.assert_close(weight.detach(), torch.full((2,), 1 / 3, dtype=torch.float64))
    torch.testing.assert_close(constant.detach(), torch.full((2,), -2.0, dtype=torch.float64))


@pytest.mark.parametrize("saved_at", [4, 5], ids=["between", "at_update"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resumes_bitwise(saved_at: int, dtype: torch.dtype) -> None:
    module, loss = network(dtype)
    optimizer = NNCG(module.parameters(), mu=1e-4, rank=7, update_frequency=5, cg_max_iterations=20, seed=3)
    for _ in range(saved_at):
        optimizer.step(closure_of(optimizer, loss))
    stored = copy.deepcopy((module.state_dict(), optimizer.state_dict()))
    for _ in range(7):
        optimizer.step(closure_of(optimizer, loss))

    resumed, resumed_loss = network(dtype)
    # Other settings, so that only the stored ones can explain the same path.
    again = NNCG(resumed.parameters(), mu=1.0, rank=2)
    again.step(closure_of(again, resumed_loss))
    resumed.load_state_dict(stored[0])
    again.load_state_dict(stored[1])
    for _ in range(7):
        again.step(closure_of(again, resumed_loss))
    assert torch.equal(flat(resumed.parameters()), flat(module.parameters()))
    assert again.num_products == optimizer.num_products


def test_global_random_state_is_left_alone() -> None:
    module, loss = network()
    optimizer = NNCG(module.parameters())
    state = torch.get_rng_state()
    optimizer.step(closure_of(optimizer, loss))
    assert torch.equal(torch.get_rng_state(), state)


def test_graph_is_freed_at_the_end_of_a_step() -> None:
    weight = nn.Parameter(torch.ones(5))
    hidden: list[weakref.ref[torch.Tensor]] = []

    def loss() -> torch.Tensor:
        inner = weight.exp()
        hidden.append(weakref.ref(inner))
        return inner.square().sum()

    optimizer = NNCG([weight], rank=2)
    gc.collect()
    gc.disable()
    try:
        optimizer.step(closure_of(optimizer, loss))
        assert [reference() for reference in hidden] == [None] * len(hidden)
    finally:
        gc.enable()
    assert weight.grad is not None
    assert not weight.grad.requires_grad
    torch.testing.assert_close(weight.grad, torch.full((5,), 2.0).exp() * 2)


def test_rate_set_from_outside_is_used() -> None:
    _, _, parameters, loss = quadratic()
    optimizer = NNCG(parameters)
    optimizer.param_groups[0]["lr"] = 0.0
    before = flat(parameters)
    optimizer.step(closure_of(optimizer, loss))
    assert torch.equal(flat(parameters), before)


def test_factory_hands_over_every_setting() -> None:
    factory = NNCGFactory(
        lr=0.5,
        rank=3,
        mu=0.1,
        update_frequency=4,
        cg_tolerance=1e-3,
        cg_max_iterations=5,
        line_search_decrease=0.2,
        line_search_shrinkage=0.3,
        line_search_max_trials=6,
        seed=7,
    )
    optimizer = factory(nn.Linear(2, 1))
    assert isinstance(optimizer, NNCG)
    assert optimizer.defaults == vars(factory)
    assert NNCG(nn.Linear(2, 1).parameters()).defaults == vars(NNCGFactory())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "`rank` must be at least 1, got 0"),
        ({"update_frequency": 0}, "`update_frequency`"),
        ({"mu": -1.0}, "`mu` must not be negative"),
        ({"lr": float("nan")}, "`lr`"),
        ({"line_search_shrinkage": 1.0}, "`line_search_shrinkage` must be between 0 and 1"),
    ],
)
def test_wrong_options_raise(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NNCG(nn.Linear(2, 1).parameters(), **options)


def test_wrong_use_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    module, loss = network()
    optimizer = NNCG(module.parameters())
    with pytest.raises(ValueError, match="closure"):
        optimizer.step()
    with pytest.raises(ValueError, match=r"create_graph=True.*def backward\(self, loss"):
        optimizer.step(closure_of(torch.optim.SGD(module.parameters()), loss))
    loss().backward(create_graph=True)
    with pytest.raises(ValueError, match="accumulate_grad_batches"):
        optimizer.step(closure_of(optimizer, loss))
    optimizer.zero_grad()
    with pytest.raises(ValueError, match="finite"):
        optimizer.step(closure_of(optimizer, lambda: loss() * torch.nan))
    assert not any(parameter.grad.requires_grad for parameter in module.parameters() if parameter.grad is not None)
    with pytest.raises(ValueError, match="one parameter group"):
        NNCG([{"params": [parameter]} for parameter in module.parameters()])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float32 or float64"):
        NNCG(nn.Linear(2, 1).half().parameters())
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="one process, got 2"):
        optimizer.step(closure_of(optimizer, loss))
