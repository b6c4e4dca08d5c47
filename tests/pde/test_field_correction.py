"""The error of a field without its solution, against fields and least-squares problems whose errors are known."""

import copy
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev

from lightning_regimes.networks import MLP
from lightning_regimes.pde import Convection, Field, Problem, Reaction, Wave, field_correction, gradient, heldout_points
from lightning_regimes.pde.derivatives import differentiable
from lightning_regimes.pde.field_correction import DampedLeastSquares, Residual
from lightning_regimes.pde.pointwise_network import PointwiseNetwork


class Waves(nn.Module):
    """Travelling waves with coefficients: linear in its parameters, and able to solve the convection equation."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self.speed = speed
        self.coefficients = nn.Parameter(torch.tensor([0.9, 0.2, -0.1, 0.3], dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        x, t = points[:, :1], points[:, 1:]
        phase = x - self.speed * t
        features = torch.cat([torch.sin(phase), torch.cos(phase), torch.sin(2 * phase), t.expand_as(x)], dim=1)
        return features @ self.coefficients[:, None]


def residuals(problem: Problem) -> dict[str, Residual]:
    found: dict[str, Residual] = {"interior": problem.residual}
    return found | {condition.name: condition.residual for condition in problem.conditions}


def points(problem: Problem, seed: int, count: int = 64) -> dict[str, Tensor]:
    return heldout_points(problem, count, seed=seed)


def small_network(seed: int, width: int = 8) -> nn.Module:
    torch.manual_seed(seed)
    return MLP(2, 1, hidden_sizes=[width, width]).double()


def test_a_network_that_can_solve_a_linear_equation_is_corrected_to_its_solution() -> None:
    problem, network = Convection(beta=3.0), Waves(3.0)
    correction = field_correction(network, residuals(problem), points(problem, 1), points(problem, 2))
    at = problem.evaluation_points()
    assert torch.allclose(correction(at), problem.solution(at), atol=1e-8)
    assert torch.equal(correction.uncorrected(at), network(at))
    assert torch.allclose(correction.step, torch.tensor([0.1, -0.2, 0.1, -0.3], dtype=torch.float64), atol=1e-8)
    assert correction.unexplained < 1e-8


def test_a_network_that_cannot_leaves_what_least_squares_leaves() -> None:
    # Of another speed, the waves' features cannot satisfy the equation; the best of them is a dense solve.
    problem, network = Convection(beta=3.0), Waves(2.0)
    step_points, check_points = points(problem, 1), points(problem, 2)
    correction = field_correction(network, residuals(problem), step_points, check_points)

    def loss_rows(parameters: Tensor, at: Mapping[str, Tensor]) -> Tensor:
        def field(where: Tensor) -> Tensor:
            output: Tensor = functional_call(network, {"coefficients": parameters}, (where,))
            return output

        rows = [residual(field, at[name]) / math.sqrt(at[name].shape[0]) for name, residual in terms.items()]
        return torch.cat(rows)[:, 0]

    terms = residuals(problem)
    start = network.coefficients.detach()
    zero = loss_rows(torch.zeros(4, dtype=torch.float64), step_points).detach()
    columns = torch.stack([loss_rows(unit, step_points).detach() - zero for unit in torch.eye(4).double()], dim=1)
    best = torch.linalg.lstsq(columns, -zero[:, None]).solution[:, 0]
    left = loss_rows(start + correction.step, check_points).norm() / loss_rows(start, check_points).norm()
    assert correction.unexplained == pytest.approx(left.item(), rel=1e-9)
    undamped = (loss_rows(best, check_points).norm() / loss_rows(start, check_points).norm()).item()
    assert correction.unexplained <= undamped * (1 + 1e-9)


@pytest.mark.parametrize("weight", [1.0, 100.0])
def test_weights_are_those_of_the_loss(weight: float) -> None:
    # Two conditions that contradict each other: the least-squares constant lies between them by their weights.
    network = nn.Linear(2, 1).double()
    nn.init.zeros_(network.weight)
    nn.init.constant_(network.bias, 5.0)
    network.weight.requires_grad_(False)
    terms: dict[str, Residual] = {"one": lambda field, at: field(at) - 1, "zero": lambda field, at: field(0 * at)}
    at = {"one": torch.zeros(3, 2), "zero": torch.zeros(7, 2)}
    correction = field_correction(network, terms, at, at, weights={"one": weight})
    assert correction(torch.zeros(1, 2)).item() == pytest.approx(weight / (weight + 1), rel=1e-9)


@pytest.mark.parametrize("problem", [Convection(beta=5.0), Reaction(rho=2.0), Wave(c=0.5, beta=2)], ids=repr)
def test_the_estimate_is_the_error_of_a_field_near_the_solution(problem: Problem) -> None:
    # A network fitted to the solution by its values alone: what it misses is known, and the equation has to find it.
    network = small_network(0, width=16)
    at = problem.evaluation_points()[::7]
    solution = problem.solution(at)
    assert solution is not None
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=80, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (network(at) - solution).square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    correction = field_correction(network, residuals(problem), points(problem, 1, 256), points(problem, 2, 256))
    error = (network(at) - solution).detach()
    estimate = (correction.uncorrected(at) - correction(at)).detach()
    assert 1e-3 < error.norm() / solution.norm() < 0.5
    assert estimate.norm().item() == pytest.approx(error.norm().item(), rel=0.1)
    # The estimate is the error itself, place by place, and not only its size.
    assert (estimate - error).norm() < 0.2 * error.norm()


def test_further_steps_remove_what_is_not_linear() -> None:
    # u² = 4 from u = 1.5: the first step of Newton's method with the slope of the start leads to 2.083, not to 2.
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(network.weight, 1.5)
    terms: dict[str, Residual] = {"square": lambda field, at: field(at).square() - 4}
    at = {"square": torch.ones(4, 1)}
    found = [field_correction(network, terms, at, at, max_iterations=count) for count in (1, 2, 3)]
    values = [correction(torch.ones(1, 1)).item() for correction in found]
    expected = [1.5]
    for _ in range(3):
        expected.append(expected[-1] - (expected[-1] ** 2 - 4) / 3.0)
    assert values == pytest.approx(expected[1:], rel=1e-9)
    assert [correction.iterations for correction in found] == [1, 2, 3]


def test_no_step_is_taken_that_makes_the_residual_worse() -> None:
    # u² + 1 = 0 has no solution, and from u = 0.1 Newton's step leads far away; damped it stays where it is.
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(network.weight, 0.1)
    terms: dict[str, Residual] = {"none": lambda field, at: field(at).square() + 1}
    at = {"none": torch.ones(4, 1)}
    correction = field_correction(network, terms, at, at)
    assert correction.iterations == 0
    assert correction.unexplained == 1
    assert not correction.step.any()


def test_the_network_and_the_random_state_are_left_as_they_are() -> None:
    problem = Convection(beta=2.0)
    network = small_network(1).float()
    before, random_state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    first = field_correction(network, residuals(problem), points(problem, 1), points(problem, 2), max_directions=20)
    again = field_correction(network, residuals(problem), points(problem, 1), points(problem, 2), max_directions=20)
    assert torch.equal(first.step, again.step)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert first.step.count_nonzero() == 20
    assert first.step.dtype == torch.float64


def test_a_residual_that_couples_points_is_refused() -> None:
    network = small_network(2)
    at = {"mean": torch.rand(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    coupled: dict[str, Residual] = {"mean": lambda field, where: field(where) - 2 * field(where).mean(dim=0)}
    with pytest.raises(ValueError, match="depends on the field at other points"):
        field_correction(network, coupled, at, at)
    uneven: dict[str, Residual] = {"mean": lambda field, where: field(torch.cat([where, where[:1]]))}
    with pytest.raises(ValueError, match="evaluated the field at 17"):
        field_correction(network, uneven, at, at)


def test_numbers_that_are_not_finite_are_refused() -> None:
    network = small_network(3)
    at = {"bad": torch.rand(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    bad: dict[str, Residual] = {"bad": lambda field, where: field(where) / 0}
    with pytest.raises(ValueError, match="not finite"):
        field_correction(network, bad, at, at)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"residuals": {}}, "`residuals` must hold at least one"),
        ({"points": {}}, r"`points` must hold points of the residual 'one', got \[\]"),
        ({"check_points": {"one": torch.zeros(0, 2)}}, "`check_points` must hold points of the residual 'one'"),
        ({"weights": {"two": 1.0}}, r"of the residuals \['one'\]; got 'two': 1.0"),
        ({"weights": {"one": -1.0}}, "not negative, .* got 'one': -1.0"),
        ({"weights": {"one": math.nan}}, "got 'one': nan"),
        ({"max_directions": 0}, "`max_directions` is at least 1, got 0"),
        ({"residuals": {"one": lambda field, at: field(at)[:, 0]}}, r"has shape \(4, m\), got \(4,\)"),
    ],
)
def test_what_does_not_belong_together_is_named(changes: dict[str, Any], message: str) -> None:
    at = {"one": torch.rand(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    good: dict[str, Any] = {"residuals": {"one": lambda field, at: field(at)}, "points": at, "check_points": at}
    with pytest.raises(ValueError, match=message):
        field_correction(small_network(4), **(good | changes))


def test_damped_steps_are_those_of_the_normal_equations() -> None:
    generator = torch.Generator().manual_seed(0)
    jacobian, check_jacobian = (torch.randn(12, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    truth = torch.randn(5, generator=generator, dtype=torch.float64)
    noise = torch.randn(12, generator=generator, dtype=torch.float64)
    residual, check = jacobian @ truth + noise, check_jacobian @ truth
    step, damping = DampedLeastSquares(jacobian, check_jacobian).step(residual, check)

    def ridge(relative: float) -> Tensor:
        gram = jacobian.T @ jacobian
        scaled = relative * torch.linalg.eigvalsh(gram)[-1] * torch.eye(5, dtype=torch.float64)
        return -torch.linalg.solve(gram + scaled, jacobian.T @ residual)

    assert torch.allclose(step, ridge(damping), rtol=1e-9)
    assert 1e-14 < damping < 1
    others = [(check + check_jacobian @ ridge(10.0**exponent)).norm() for exponent in range(-12, 1)]
    assert (check + check_jacobian @ step).norm() <= min(others) * (1 + 1e-9)


@pytest.mark.parametrize("blocks", [1, 2])
def test_a_point_has_parameters_of_its_own(blocks: int) -> None:
    network = small_network(4)
    model = PointwiseNetwork(network)
    generator = torch.Generator().manual_seed(1)
    at = torch.rand(3 * blocks, 2, generator=generator, dtype=torch.float64)
    own = model.parameters + torch.rand(3, model.parameters.numel(), generator=generator, dtype=torch.float64)
    for row, value in enumerate(model.pointwise_field(own)(at)):
        other = copy.deepcopy(network)
        nn.utils.vector_to_parameters(own[row % 3], other.parameters())
        assert value.item() == pytest.approx(other(at[row]).item(), rel=1e-12)


def test_a_changed_field_is_the_first_order_and_can_be_differentiated() -> None:
    network = small_network(5)
    model = PointwiseNetwork(network)
    step = torch.randn(model.parameters.numel(), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = differentiable(torch.rand(6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    named = dict(network.named_parameters())

    def field(where: Tensor) -> Tensor:
        derivatives = jacrev(lambda values: functional_call(network, values, (where,)))(named)
        rows = torch.cat([part.reshape(where.shape[0], -1) for part in derivatives.values()], dim=1)
        return network(where) + (rows @ step)[:, None]

    changed: Field = model.changed_field(step)
    assert torch.allclose(changed(at), field(at), rtol=1e-12)
    assert torch.allclose(gradient(changed(at), at), gradient(field(at), at), rtol=1e-10, atol=1e-12)
