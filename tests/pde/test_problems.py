"""What all problems share: coefficients, equality, refusals."""

import pytest
import torch

from lightning_regimes.modules import PINN
from lightning_regimes.pde import (
    AllenCahn,
    Burgers,
    Condition,
    Convection,
    Domain,
    Field,
    Helmholtz,
    Poisson,
    Problem,
    Reaction,
    ReactionDiffusion,
    Value,
    Wave,
)

ALL = [Convection(), Reaction(), Wave(), ReactionDiffusion(), Burgers(), Helmholtz(), Poisson(), AllenCahn()]


@pytest.mark.parametrize("problem", ALL, ids=repr)
def test_coefficient_can_be_changed(problem: Convection) -> None:
    changed = problem.with_coefficient(0.5)
    assert changed.coefficient_value == 0.5
    assert type(changed) is type(problem)
    assert changed.with_coefficient(problem.coefficient_value) == problem


@pytest.mark.parametrize("problem", ALL, ids=repr)
def test_shapes_agree(problem: Convection) -> None:
    points = problem.evaluation_points()[:7]
    assert points.shape == (7, len(problem.coordinates))
    assert problem.solution(points).shape == (7, problem.num_fields)
    linear = torch.nn.Linear(2, 1).double()
    assert problem.residual(linear, points).shape == (7, problem.num_fields)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wave(beta=0), "whole number"),
        (lambda: Burgers(nu=0.0), "nu"),
        (lambda: AllenCahn(nu=-1.0), "nu"),
        (lambda: ReactionDiffusion(nu=-1.0), "ill-posed"),
        (lambda: Reaction(width=0.0), "width"),
    ],
)
def test_impossible_coefficients_raise(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


class Equation(Problem):
    """As little as an equation of one's own needs."""

    @property
    def domain(self) -> Domain:
        return ((0.0, 1.0), (0.0, 1.0))

    @property
    def conditions(self) -> tuple[Condition, ...]:
        return (Value("boundary", self.domain, axis=0, ends=(0, 1)),)

    def residual(self, field: Field, points: torch.Tensor) -> torch.Tensor:
        return field(points) - 1


def test_what_an_equation_lacks_is_said_where_it_is_needed() -> None:
    problem = Equation()
    assert problem.solution(problem.evaluation_points()) is None
    with pytest.raises(ValueError, match="Equation names no `coefficient`"):
        problem.with_coefficient(2.0)
    with pytest.raises(ValueError, match="Equation has no ansatz"):
        problem.ansatz(torch.nn.Linear(2, 1))
    with pytest.raises(ValueError, match="Equation has none"):
        PINN(problem, constraints="hard")
