"""Whatever the network, the ansatz satisfies the conditions it claims, and can still represent the solution."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.networks import MLP
from lightning_regimes.pde import (
    AllenCahn,
    Burgers,
    Convection,
    Helmholtz,
    Poisson,
    Problem,
    Reaction,
    ReactionDiffusion,
    Wave,
    sobol_sampler,
)
from lightning_regimes.pde.ansatz import blended_boundary

PROBLEMS = [
    Convection(),
    Reaction(),
    Wave(),
    ReactionDiffusion(),
    Burgers(),
    AllenCahn(),
    Helmholtz(frequency_y=2.5),
    Poisson(frequency=1.3),
]


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.1, 10.0))
@settings(max_examples=10, deadline=None)
def test_conditions_hold_for_any_network(problem: Problem, seed: int, scale: float) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = MLP(2, 1, hidden_sizes=(16, 16)).double()
    field = problem.ansatz(lambda points: scale * network(points))
    by_name = {condition.name: condition for condition in problem.conditions}
    assert set(problem.exact_conditions) <= set(by_name)
    for name in problem.exact_conditions:
        points = by_name[name].sample(50, sobol_sampler(seed))
        assert by_name[name].residual(field, points).abs().max() < 1e-12 * max(1.0, scale), name


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_network_still_matters_inside(problem: Problem) -> None:
    torch.manual_seed(0)
    network = MLP(2, 1, hidden_sizes=(16,)).double()
    points = problem.points(100, sobol_sampler(0))
    difference = problem.ansatz(network)(points) - problem.ansatz(lambda at: 0 * network(at))(points)
    assert (difference.abs() > 1e-9).float().mean() > 0.95


def test_blended_boundary_reproduces_bilinear_functions() -> None:
    def bilinear(points: torch.Tensor) -> torch.Tensor:
        x, y = points[:, :1], points[:, 1:]
        return 1 + 2 * x - 3 * y + 4 * x * y

    points = sobol_sampler(0)(((-1.0, 2.0), (0.0, 5.0)), 64)
    torch.testing.assert_close(blended_boundary(bilinear, points, ((-1.0, 2.0), (0.0, 5.0))), bilinear(points))
