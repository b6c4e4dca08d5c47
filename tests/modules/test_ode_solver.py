"""The solver: orders of convergence, rows with times of their own, and failures that are explained."""

import math

import pytest
import torch
from torchdiffeq._impl.odeint import SOLVERS

from lightning_regimes.modules import NeuralODE, ODESolver
from lightning_regimes.modules.ode_solver import ADAPTIVE_METHODS, FIXED_STEP_METHODS, IntegrationError

ROTATION = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)


def rotate(states: torch.Tensor) -> torch.Tensor:
    return states @ ROTATION.T


def turned(initial: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
    """The exact trajectories of the rotation."""
    angle = (times - times[:, :1])[..., None, None]
    matrix = torch.cos(angle) * torch.eye(2, dtype=torch.float64) + torch.sin(angle) * ROTATION
    return (matrix @ initial[:, None, :, None])[..., 0]


def test_methods_are_those_of_torchdiffeq() -> None:
    # Left out are two older names, and SciPy's solvers, which have no gradient.
    assert set(FIXED_STEP_METHODS + ADAPTIVE_METHODS) == SOLVERS.keys() - {"fixed_adams", "scipy_solver"}


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun2", 2), ("heun3", 3), ("rk4", 4)])
def test_substeps_reduce_the_error_by_the_order_of_the_method(method: str, order: int) -> None:
    initial = torch.tensor([[1.0, 0.0], [0.3, -2.0]], dtype=torch.float64)
    times = torch.linspace(0, 2, 5, dtype=torch.float64).expand(2, -1)
    errors = [
        (ODESolver(method=method, substeps=substeps).solve(rotate, initial, times) - turned(initial, times)).norm()
        for substeps in (16, 32)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("method", [*ADAPTIVE_METHODS, "rk4", "explicit_adams", "implicit_adams"])
@pytest.mark.parametrize("shared", [True, False])
def test_every_method_solves_a_rotation(method: str, shared: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    initial = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    times = torch.rand(1 if shared else 3, 6, generator=generator, dtype=torch.float64).sort(dim=1).values.expand(3, -1)
    options = {"rtol": 1e-7, "atol": 1e-8} if method in ADAPTIVE_METHODS else {"substeps": 50}
    found = ODESolver(method=method, **options).solve(rotate, initial, times)
    # Adaptive methods of low order interpolate between their steps.
    torch.testing.assert_close(found, turned(initial, times), rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "rk5"}, "`method` must be one of euler, .*, got 'rk5'"),
        ({"substeps": 0}, "`substeps`"),
        ({"method": "dopri5", "substeps": 2}, "adapts them"),
        ({"rtol": 0.0}, "`rtol`"),
        ({"min_step": -1.0}, "`min_step`"),
        ({"max_num_steps": 0}, "`max_num_steps`"),
    ],
)
def test_wrong_options_raise(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ODESolver(**options)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([[0.0, 1.0, 1.0]], "increase along each trajectory, got 1 and then 1 in row 0"),
        ([[0.0, 2.0, 1.0]], "got 2 and then 1"),
        ([[0.0, float("nan"), 1.0]], "increase along each trajectory"),
        ([[0.0]], "at least two times"),
        ([[0.0, 1.0], [0.0, 1.0]], "shapes"),
    ],
)
def test_wrong_times_raise(times: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ODESolver().solve(rotate, torch.ones(1, 2, dtype=torch.float64), torch.tensor(times, dtype=torch.float64))


@pytest.mark.parametrize(
    ("field", "options", "message"),
    [
        (lambda y: y**2, {}, "below the rounding of time .*underflow in dt.*lower the learning rate"),
        (lambda y: y * float("nan"), {}, "underflow in dt"),
        (lambda y: -1e6 * y, {"max_num_steps": 10}, "needs too many steps"),
        (lambda y: y**2, {"min_step": 0.3}, "not finite"),
    ],
)
def test_failures_of_adaptive_methods_are_explained(field, options: dict, message: str) -> None:
    # ẏ = y² from 1 has no solution beyond t = 1.
    solver = ODESolver(method="dopri5", **options)
    with pytest.raises(IntegrationError, match=message) as caught:
        solver.solve(field, torch.ones(1, 1), torch.tensor([[0.0, 20.0]]))
    assert str(caught.value).count(". ") == 0


def test_a_failure_of_the_adjoint_equation_is_explained_too() -> None:
    module = NeuralODE(network=torch.nn.Linear(1, 1), solver=ODESolver(method="dopri5", adjoint=True))

    def fails(*_: object) -> None:
        raise AssertionError("underflow in dt 0.0")

    loss = torch.ones((), requires_grad=True) * 1
    loss.register_hook(fails)
    with pytest.raises(IntegrationError, match="'dopri5' needs a step below"):
        module.backward(loss)
