"""Derivatives against closed forms, in every mode that a loss may be evaluated in."""

import pytest
import torch
from torch.func import functional_call, grad, jvp

from lightning_regimes.networks import MLP
from lightning_regimes.pde import Burgers, differentiable, gradient, sobol_sampler


def test_first_and_second_derivatives() -> None:
    points = differentiable(torch.rand(20, 2, dtype=torch.float64))
    x, y = points[:, 0], points[:, 1]
    slope = gradient(torch.sin(2 * x) * y**3, points)
    torch.testing.assert_close(slope[:, 0], 2 * torch.cos(2 * x) * y**3)
    torch.testing.assert_close(slope[:, 1], 3 * torch.sin(2 * x) * y**2)
    curvature = gradient(slope[:, 0], points)
    torch.testing.assert_close(curvature[:, 0], -4 * torch.sin(2 * x) * y**3)
    torch.testing.assert_close(curvature[:, 1], 6 * torch.cos(2 * x) * y**2)


def test_points_of_the_caller_are_left_alone() -> None:
    points = torch.rand(3, 2)
    differentiable(points)
    assert not points.requires_grad
    tracked = torch.rand(3, 2, requires_grad=True)
    assert differentiable(tracked) is tracked


def test_linear_and_constant_fields() -> None:
    points = differentiable(torch.rand(5, 2, dtype=torch.float64))
    slope = gradient(3 * points[:, :1], points)
    torch.testing.assert_close(slope, torch.tensor([[3.0, 0.0]], dtype=torch.float64).expand(5, 2))
    assert gradient(slope[:, 0], points).abs().max() == 0
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    slope = gradient(weight * points[:, 0], points)
    assert gradient(slope[:, 0], points).abs().max() == 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_disabled_gradients_raise(mode: type) -> None:
    problem = Burgers()
    with mode(), pytest.raises(RuntimeError, match="enable_grad"):
        problem.residual(problem.solution, torch.rand(3, 2))


def test_several_fields_at_once_raise() -> None:
    points = differentiable(torch.rand(3, 2))
    with pytest.raises(ValueError, match="one field at a time"):
        gradient(points * 2, points)


def test_residual_inside_functional_transforms() -> None:
    torch.manual_seed(0)
    problem = Burgers(nu=0.1)
    network = MLP(2, 1, hidden_sizes=(6,)).double()
    points = problem.points(16, sobol_sampler(0))
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    direction = {name: torch.randn_like(parameter) for name, parameter in parameters.items()}

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return problem.residual(lambda at: functional_call(network, values, (at,)), points).square().mean()

    transformed, product = jvp(grad(loss), (parameters,), (direction,))[:2]

    leaves = {name: parameter.clone().requires_grad_() for name, parameter in parameters.items()}
    gradients = torch.autograd.grad(loss(leaves), list(leaves.values()), create_graph=True, materialize_grads=True)
    inner = torch.stack([(g * direction[name]).sum() for name, g in zip(list(leaves), gradients, strict=True)]).sum()
    expected = torch.autograd.grad(inner, list(leaves.values()), materialize_grads=True)
    for name, first, second in zip(list(leaves), gradients, expected, strict=True):
        torch.testing.assert_close(transformed[name], first)
        torch.testing.assert_close(product[name], second)
