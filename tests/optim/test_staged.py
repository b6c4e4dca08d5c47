"""Two stages in one optimizer: each equals torch's own, and both resume exactly."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from lightning_regimes.optim import AdamThenLBFGS, CompactLBFGS


def problem() -> tuple[nn.Module, Callable[[], torch.Tensor]]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    inputs = torch.rand(32, 2)
    targets = torch.sin(3 * inputs[:, :1]) * inputs[:, 1:]

    def loss() -> torch.Tensor:
        return (network(inputs) - targets).square().mean()

    return network, loss


def closure_of(network: nn.Module, loss: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    def closure() -> torch.Tensor:
        network.zero_grad()
        value = loss()
        value.backward()
        return value

    return closure


def flat(network: nn.Module) -> torch.Tensor:
    return nn.utils.parameters_to_vector(network.parameters()).detach().clone()


def test_stages_equal_the_two_optimizers_bitwise() -> None:
    network, loss = problem()
    staged = AdamThenLBFGS(network.parameters(), switch_step=5, adam_lr=0.01, max_iter=4, history_size=10)
    twin, twin_loss = problem()
    adam = torch.optim.Adam(twin.parameters(), lr=0.01)
    lbfgs = CompactLBFGS(
        twin.parameters(),
        lr=1.0,
        max_iter=4,
        max_eval=40,
        history_size=10,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )
    for step in range(9):
        value = staged.step(closure_of(network, loss))
        expected = (adam if step < 5 else lbfgs).step(closure_of(twin, twin_loss))
        assert value.item() == expected.item()
        assert torch.equal(flat(network), flat(twin))


def test_rate_and_stage_are_visible() -> None:
    network, loss = problem()
    optimizer = AdamThenLBFGS(network.parameters(), switch_step=2, adam_lr=0.01, lbfgs_lr=0.5)
    seen = []
    for _ in range(3):
        seen.append((optimizer.stage, optimizer.param_groups[0]["lr"]))
        optimizer.step(closure_of(network, loss))
    assert seen == [("adam", 0.01), ("adam", 0.01), ("lbfgs", 0.5)]


def test_rate_set_from_outside_is_used() -> None:
    network, loss = problem()
    optimizer = AdamThenLBFGS(network.parameters(), switch_step=10, adam_lr=0.01)
    optimizer.param_groups[0]["lr"] = 0.0
    before = flat(network)
    optimizer.step(closure_of(network, loss))
    assert torch.equal(flat(network), before)


@pytest.mark.parametrize("saved_at", [3, 5, 7], ids=["adam", "switch", "lbfgs"])
def test_resumes_bitwise(saved_at: int) -> None:
    network, loss = problem()
    optimizer = AdamThenLBFGS(network.parameters(), switch_step=5, adam_lr=0.01, max_iter=3)
    for _ in range(saved_at):
        optimizer.step(closure_of(network, loss))
    stored = copy.deepcopy((network.state_dict(), optimizer.state_dict()))
    for _ in range(10 - saved_at):
        optimizer.step(closure_of(network, loss))

    resumed, resumed_loss = problem()
    # Other settings, so that only the stored ones can explain the same path.
    again = AdamThenLBFGS(resumed.parameters(), switch_step=0, adam_lr=1.0, max_iter=9)
    again.step(closure_of(resumed, resumed_loss))
    resumed.load_state_dict(stored[0])
    again.load_state_dict(stored[1])
    for _ in range(10 - saved_at):
        again.step(closure_of(resumed, resumed_loss))
    assert torch.equal(flat(resumed), flat(network))


def test_lbfgs_stage_finds_the_minimum_of_a_quadratic() -> None:
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    matrix = basis @ torch.diag(torch.logspace(0, 3, 6, dtype=torch.float64)) @ basis.T
    target = torch.randn(6, dtype=torch.float64)
    parameter = nn.Parameter(torch.zeros(6, dtype=torch.float64))
    optimizer = AdamThenLBFGS([parameter], switch_step=3, adam_lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = 0.5 * (parameter - target) @ matrix @ (parameter - target)
        loss.backward()
        return loss

    for _ in range(6):
        optimizer.step(closure)
    torch.testing.assert_close(parameter.detach(), target, rtol=0, atol=1e-9)


def test_wrong_use_raises() -> None:
    network, _ = problem()
    with pytest.raises(ValueError, match="closure"):
        AdamThenLBFGS(network.parameters()).step()
    with pytest.raises(ValueError, match="not be negative"):
        AdamThenLBFGS(network.parameters(), switch_step=-1)
    groups = [{"params": [parameter]} for parameter in network.parameters()]
    with pytest.raises(ValueError, match="one parameter group"):
        AdamThenLBFGS(groups)  # type: ignore[arg-type]
