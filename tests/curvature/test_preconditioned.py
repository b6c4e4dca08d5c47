"""The preconditioned Hessian and the preconditioners of torch's optimizers against dense float64 matrices."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes.curvature import (
    HessianOperator,
    PreconditionedOperator,
    adaptive_preconditioner,
    edge_of_stability,
    eigsh,
)
from lightning_regimes.probe import LossProbe


def symmetric(size: int) -> Tensor:
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return matrix + matrix.T


def test_products_and_eigenvalues_of_a_matrix() -> None:
    matrix, diagonal = symmetric(30), torch.linspace(0.1, 4, 30, dtype=torch.float64)
    operator = PreconditionedOperator(matrix, diagonal, shift=0.7)
    dense = (matrix + 0.7 * torch.eye(30)) / (diagonal[:, None] * diagonal).sqrt()
    torch.testing.assert_close(operator @ torch.eye(30, dtype=torch.float64), dense)
    assert operator.num_matvecs == 30
    assert eigsh(operator, 1, tol=1e-8).values[0].item() == pytest.approx(torch.linalg.eigvalsh(dense)[-1].item())
    values = torch.linalg.eigvals((matrix + 0.7 * torch.eye(30)) / diagonal[:, None]).real
    assert values.max().item() == pytest.approx(torch.linalg.eigvalsh(dense)[-1].item())


def test_infinite_entries_leave_their_coordinates_out() -> None:
    matrix, diagonal = symmetric(6), torch.ones(6, dtype=torch.float64)
    diagonal[2] = torch.inf
    dense = PreconditionedOperator(matrix, diagonal, shift=3.0) @ torch.eye(6, dtype=torch.float64)
    assert not dense[2].any()
    assert not dense[:, 2].any()


@pytest.mark.parametrize("entry", [0.0, -1.0, float("nan")])
def test_a_diagonal_that_is_not_positive_is_refused(entry: float) -> None:
    with pytest.raises(ValueError, match="`diagonal` must be positive"):
        PreconditionedOperator(symmetric(3), torch.tensor([1.0, entry, 1.0]))


OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (torch.optim.Adam, {"eps": 0.3}),
    "adam amsgrad": (torch.optim.Adam, {"eps": 0.3, "amsgrad": True}),
    "adamw": (torch.optim.AdamW, {"eps": 0.3, "weight_decay": 0.0}),
    "nadam": (torch.optim.NAdam, {"eps": 0.3}),
    "rmsprop": (torch.optim.RMSprop, {"eps": 0.3}),
    "rmsprop centered": (torch.optim.RMSprop, {"eps": 0.3, "centered": True}),
    "adamax": (torch.optim.Adamax, {}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_preconditioner_is_by_what_the_optimizer_divides(name: str) -> None:
    # A step with no momentum and almost constant averages is the gradient over the diagonal.
    optimizer_class, options = OPTIMIZERS[name]
    if "rmsprop" not in name:
        options = options | {"betas": (0.0, 0.9)}
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(5, dtype=torch.float64))
    optimizer = optimizer_class([parameter], lr=1.0, **options)
    for scale in (3.0, 1.0, 0.2):
        before = parameter.detach().clone()
        parameter.grad = scale * torch.randn(5, dtype=torch.float64)
        optimizer.step()
    found = adaptive_preconditioner(optimizer, [parameter])
    assert parameter.grad is not None
    torch.testing.assert_close(parameter.grad / (before - parameter.detach()), found.diagonal)
    assert not found.weight_decay.any()


def test_groups_complex_parameters_and_those_that_do_not_move() -> None:
    first = nn.Parameter(torch.ones(2, dtype=torch.complex128))
    second, idle, foreign = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(3))
    groups = [{"params": [second, idle], "eps": 0.5}, {"params": [first], "weight_decay": 0.1}]
    optimizer = torch.optim.Adam(groups)
    with pytest.raises(ValueError, match="Adam has no state yet"):
        adaptive_preconditioner(optimizer, [first, second])
    first.grad = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex128)
    second.grad = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    optimizer.step()
    found = adaptive_preconditioner(optimizer, [foreign, first, idle, second])
    # The decay is part of the gradient, and so of its square.
    expected = [torch.inf] * 3 + [1.1, 2, 3.1, 4] + [torch.inf] * 3 + [1.5, 2.5, 3.5]
    torch.testing.assert_close(found.diagonal, torch.tensor(expected, dtype=torch.float64), rtol=1e-7, atol=0)
    assert found.weight_decay.tolist() == [0.0] * 3 + [0.1] * 4 + [0.0] * 6
    with pytest.raises(ValueError, match="Adam has none of the 1 parameters"):
        adaptive_preconditioner(optimizer, [foreign])
    with pytest.raises(ValueError, match="no preconditioner is known for SGD"):
        adaptive_preconditioner(torch.optim.SGD([first]), [first])


@pytest.mark.parametrize(("decay", "dtype"), [(0.0, torch.float64), (0.05, torch.float64), (0.0, torch.float32)])
def test_edge_of_a_network_under_adam(decay: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2)).double()
    inputs, targets = torch.randn(32, 4, dtype=torch.float64), torch.randn(32, 2, dtype=torch.float64)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=decay)
    for _ in range(20):
        optimizer.zero_grad()
        functional.mse_loss(module(inputs), targets).backward()
        optimizer.step()
    named = dict(module.named_parameters())

    def flat_loss(weights: Tensor) -> Tensor:
        pieces = weights.split([parameter.numel() for parameter in named.values()])
        values = {name: piece.view_as(named[name]) for name, piece in zip(named, pieces, strict=True)}
        return functional.mse_loss(torch.func.functional_call(module, values, (inputs,)), targets)

    weights = nn.utils.parameters_to_vector(module.parameters()).detach()
    hessian = torch.autograd.functional.hessian(flat_loss, weights) + decay * torch.eye(len(weights))
    states = [optimizer.state[parameter] for parameter in named.values()]
    moment = torch.cat([state["exp_avg_sq"].flatten() for state in states]) / (1 - 0.999**20)
    scale = (moment.sqrt() + 1e-8).rsqrt()
    truth = torch.linalg.eigvalsh(scale[:, None] * hessian * scale)[-1].item()

    probe = LossProbe(module, [(inputs, targets)], loss=lambda m, b: functional.mse_loss(m(b[0]), b[1]), dtype=dtype)
    with HessianOperator(probe) as operator:
        found = edge_of_stability(operator, optimizer, list(named.values()))
        assert found.num_matvecs == operator.num_matvecs <= 20
    assert found.sharpness == pytest.approx(truth, rel=1e-4)
    assert found.threshold == pytest.approx(3800)
    assert found.ratio == pytest.approx(truth / 3800, rel=1e-4)


def test_edge_that_is_not_known_says_why() -> None:
    parameter = nn.Parameter(torch.ones(3, dtype=torch.float64))
    matrix = torch.diag(torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64))
    assert edge_of_stability(matrix, torch.optim.SGD([parameter], lr=0.1), [parameter]).ratio == pytest.approx(0.25)
    with pytest.raises(ValueError, match="no stability threshold is known for LBFGS"):
        edge_of_stability(matrix, torch.optim.LBFGS([parameter]), [parameter])
    with pytest.raises(ValueError, match="the learning rate is zero"):
        edge_of_stability(matrix, torch.optim.Adam([parameter], lr=0.0), [parameter])
