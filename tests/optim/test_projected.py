"""Updates lie in the subspace, or outside, and everything else is that of the wrapped optimizer."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ExponentialLR

from lightning_regimes.optim import ProjectedOptimizer, ProjectedSGDFactory

OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adam": lambda parameters: torch.optim.Adam(parameters, lr=0.1),
    "lbfgs": lambda parameters: torch.optim.LBFGS(parameters, max_iter=3),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()


def flat(module):
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def step(module, optimizer):
    inputs = torch.linspace(-1, 1, 15, dtype=torch.float64).view(5, 3)

    def closure():
        optimizer.zero_grad()
        loss = (module(inputs) - inputs.prod(1, keepdim=True)).square().mean()
        loss.backward()
        return loss

    return optimizer.step(closure)


def basis(size, k=3):
    generator = torch.Generator().manual_seed(1)
    return torch.linalg.qr(torch.randn(size, k, generator=generator, dtype=torch.float64))[0]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("keep", ["dominant", "bulk", "all"])
def test_the_update_is_the_projection_of_the_wrapped_one(make, keep):
    module, twin = network(), network()
    optimizer, bare = ProjectedOptimizer(make(module.parameters()), keep=keep), make(twin.parameters())
    start = flat(module)
    vectors = basis(start.numel())
    optimizer.set_subspace(vectors)
    assert step(module, optimizer).item() == step(twin, bare).item()
    update, whole = flat(module) - start, flat(twin) - start
    inside = vectors @ (vectors.T @ whole)
    expected = {"dominant": inside, "bulk": whole - inside, "all": whole}[keep]
    torch.testing.assert_close(update, expected, rtol=0, atol=1e-15)


def test_without_a_subspace_it_is_the_wrapped_optimizer():
    module, twin = network(), network()
    optimizer, bare = ProjectedOptimizer(OPTIMIZERS["adam"](module.parameters())), OPTIMIZERS["adam"](twin.parameters())
    for _ in range(3):
        step(module, optimizer)
        step(twin, bare)
    assert torch.equal(flat(module), flat(twin))


def test_rows_follow_the_parameters_given_and_the_others_are_orthogonal():
    module = network()
    optimizer = ProjectedOptimizer(OPTIMIZERS["sgd"](module.parameters()), keep="dominant")
    weight, bias = module[2].bias, module[0].bias
    optimizer.set_subspace(torch.tensor([[0.0], [1.0], [0.0], [0.0], [0.0]], dtype=torch.float64), [weight, bias])
    before = copy.deepcopy(module.state_dict())
    step(module, optimizer)
    moved = {name: (value != before[name]).nonzero().tolist() for name, value in module.state_dict().items()}
    assert moved == {"0.weight": [], "0.bias": [[0]], "2.weight": [], "2.bias": []}


@pytest.mark.parametrize("saved_by", ["projected", "bare"])
def test_resumes_bitwise_from_its_own_state_and_starts_from_a_bare_one(saved_by):
    module = network()
    inner = OPTIMIZERS["adam"](module.parameters())
    optimizer = ProjectedOptimizer(inner, keep="bulk")
    step(module, optimizer)
    if saved_by == "projected":
        optimizer.set_subspace(basis(flat(module).numel()), list(reversed(list(module.parameters()))))
    step(module, optimizer)
    stored = copy.deepcopy((module.state_dict(), (optimizer if saved_by == "projected" else inner).state_dict()))
    step(module, optimizer)

    again = network()
    resumed = ProjectedOptimizer(OPTIMIZERS["adam"](again.parameters()), keep="bulk")
    again.load_state_dict(stored[0])
    resumed.load_state_dict(stored[1])
    assert (resumed.subspace is None) == (saved_by == "bare")
    step(again, resumed)
    assert torch.equal(flat(again), flat(module))


def test_copies_are_independent():
    module = network()
    optimizer = ProjectedOptimizer(OPTIMIZERS["momentum"](module.parameters()))
    step(module, optimizer)
    other = copy.deepcopy(optimizer)
    assert other.param_groups is other.optimizer.param_groups
    assert other.state is other.optimizer.state
    assert other.param_groups is not optimizer.param_groups


def test_schedulers_and_groups_reach_the_wrapped_optimizer(recwarn):
    module = network()
    made = ProjectedSGDFactory(lr=0.4, lr_scheduler=lambda optimizer: ExponentialLR(optimizer, 0.5))(module)
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    step(module, optimizer)
    scheduler.step()
    assert not recwarn.list
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.2
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    assert len(optimizer.optimizer.param_groups) == len(optimizer.param_groups) == 2


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.zeros(21, 2, dtype=torch.float64), "orthonormal"),
        (torch.full((21, 1), float("nan"), dtype=torch.float64), "orthonormal"),
        (torch.eye(20, dtype=torch.float64), "one row for each of 21"),
    ],
)
def test_vectors_that_span_no_subspace_are_refused(vectors, message):
    optimizer = ProjectedOptimizer(OPTIMIZERS["sgd"](network().parameters()))
    with pytest.raises(ValueError, match=message):
        optimizer.set_subspace(vectors)


def test_wrong_use_is_named():
    module = network()
    with pytest.raises(ValueError, match="`keep`"):
        ProjectedOptimizer(OPTIMIZERS["sgd"](module.parameters()), keep="most")
    optimizer = ProjectedOptimizer(OPTIMIZERS["sgd"](module[0].parameters()))
    with pytest.raises(ValueError, match="`parameters`"):
        optimizer.set_subspace(basis(21), list(module.parameters()))
