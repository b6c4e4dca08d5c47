"""The solutions satisfy their equations, their conditions, and the numbers known about them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.special import expit, logit

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
    allen_cahn,
    reaction_diffusion,
    sobol_sampler,
    uniform_sampler,
)
from lightning_regimes.pde.etdrk4 import etdrk4

CLOSED_FORM = [
    Convection(beta=30.0),
    Reaction(rho=5.0),
    Wave(c=2.0),
    Wave(c=1.5, beta=3),
    Burgers(),
    Burgers(nu=0.1),
    Helmholtz(),
    Helmholtz(frequency_y=2.5, wavenumber=3.0),
    Poisson(frequency=2.0),
]
ALL = [*CLOSED_FORM, ReactionDiffusion(), AllenCahn()]


@pytest.mark.parametrize("problem", CLOSED_FORM, ids=repr)
def test_solution_satisfies_the_equation(problem: Problem) -> None:
    points = problem.points(500, sobol_sampler(1))
    residual = problem.residual(problem.solution, points)
    # Second derivatives of frequency 10π cost about three digits.
    assert residual.abs().max() < 1e-11


@pytest.mark.parametrize("problem", ALL, ids=repr)
def test_solution_satisfies_the_conditions(problem: Problem) -> None:
    for condition in problem.conditions:
        if condition.name == "periodic_slope":
            continue  # the spline reference carries no gradient; its periodicity is tested below
        points = condition.sample(100, sobol_sampler(2))
        residual = condition.residual(problem.solution, points)
        tolerance = 1e-7 if isinstance(problem, AllenCahn | ReactionDiffusion) else 1e-12
        # Allen-Cahn starts with a corner at the periodic boundary, which no smooth interpolant follows.
        inside = (
            points[:, 0].abs() < 0.9 if isinstance(problem, AllenCahn) and condition.name == "initial" else slice(None)
        )
        assert residual[inside].abs().max() < tolerance, condition.name


@pytest.mark.parametrize(
    ("problem", "term", "expected"),
    [
        (Convection(), "initial", 0.5),
        (Reaction(), "initial", math.sqrt(math.pi) / 8),
        (Wave(), "initial", 0.625),
        (Burgers(), "initial", 0.5),
    ],
)
def test_loss_of_the_trivial_predictor(problem: Problem, term: str, expected: float) -> None:
    def zero(points: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(points[:, :1])

    points = {condition.name: condition.sample(4096, sobol_sampler(0)) for condition in problem.conditions}
    losses = {
        condition.name: condition.residual(zero, points[condition.name]).square().mean().item()
        for condition in problem.conditions
    }
    assert losses.pop(term) == pytest.approx(expected, rel=1e-3)
    assert sum(losses.values()) == 0
    assert problem.residual(zero, problem.points(64, sobol_sampler(0))).abs().max() == 0


@given(c=st.floats(0.1, 5.0), beta=st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_wave_solves_its_equation_at_every_speed(c: float, beta: int) -> None:
    problem = Wave(c=c, beta=beta)
    points = problem.points(64, sobol_sampler(1))
    # Both second derivatives are as large as ½ (cβπ)², of which rounding leaves a few units in the last place.
    rounding = 1e-14 * (1 + (c * beta * math.pi) ** 2)
    assert problem.residual(problem.solution, points).abs().max() < rounding
    for condition in problem.conditions:
        residual = condition.residual(problem.solution, condition.sample(64, sobol_sampler(2)))
        assert residual.abs().max() < rounding, condition.name
    # Its own speed only: another one leaves a residual of the order of the difference of the squares.
    other = Wave(c=1.1 * c, beta=beta).residual(problem.solution, points).abs().max()
    assert other > 0.1 * c**2


def test_wave_speed_enters_squared() -> None:
    points = Wave().points(64, sobol_sampler(0))
    slower, faster = Wave(c=1.0), Wave(c=3.0)
    assert faster.residual(slower.solution, points).abs().max() > 1
    assert faster.residual(faster.solution, points).abs().max() < 1e-11


def test_reaction_agrees_with_an_ode_solver() -> None:
    problem = Reaction(rho=7.0)
    start = problem.solution(torch.tensor([[2.0, 0.0]], dtype=torch.float64)).item()
    solved = solve_ivp(lambda _, u: 7.0 * u * (1 - u), (0, 1), [start], rtol=1e-11, atol=1e-12).y[0, -1]
    end = problem.solution(torch.tensor([[2.0, 1.0]], dtype=torch.float64)).item()
    assert end == pytest.approx(solved, rel=1e-9)
    assert end == pytest.approx(expit(logit(start) + 7.0), rel=1e-12)


def test_burgers_slope_at_the_shock() -> None:
    # |u_x(0, t)| peaks at 152.00516 near t = 1.6037/π (Basdevant et al. 1986, table 1).
    problem = Burgers()
    times = torch.linspace(0.5, 0.52, 201, dtype=torch.float64)
    points = torch.stack([torch.zeros_like(times), times], dim=1).requires_grad_()
    (slope,) = torch.autograd.grad(problem.solution(points).sum(), points)
    steepest = slope[:, 0].abs().max(dim=0)
    assert steepest.values.item() == pytest.approx(152.00516, rel=1e-5)
    assert math.pi * times[steepest.indices].item() == pytest.approx(1.6037, abs=5e-4)


@pytest.mark.parametrize("problem", [ReactionDiffusion(), ReactionDiffusion(nu=3.0), AllenCahn()], ids=repr)
def test_reference_solution_satisfies_the_equation(problem: ReactionDiffusion | AllenCahn) -> None:
    if isinstance(problem, AllenCahn):
        reference = allen_cahn.reference_solution(problem.nu, problem.rho)
    else:
        reference = reaction_diffusion.reference_solution(problem.nu, problem.rho, problem.width)
    points = problem.points(2000, sobol_sampler(3))
    points = points[points[:, 1] > 0.02]  # the first instants are too fast for the spline in time
    u, u_t, u_xx = reference(points), reference(points, order=(0, 1)), reference(points, order=(2, 0))
    source = u * (1 - u) if isinstance(problem, ReactionDiffusion) else u - u**3
    residual = u_t - problem.nu * u_xx - problem.rho * source
    assert residual.abs().max() < 1e-4
    assert residual.abs().median() < 1e-7
    ends = torch.tensor(problem.domain[0], dtype=torch.float64)
    for time in (0.3, 0.9):
        at_ends = torch.stack([ends, torch.full_like(ends, time)], dim=1)
        for order in ((0, 0), (1, 0)):
            low, high = reference(at_ends, order=order)
            assert low.item() == pytest.approx(high.item(), abs=1e-5)


def test_strang_splitting_is_of_second_order() -> None:
    finest = reaction_diffusion.integrate(5.0, 5.0, math.pi / 4, num_steps=3200)[-1]
    errors = [
        np.abs(reaction_diffusion.integrate(5.0, 5.0, math.pi / 4, num_steps=steps)[-1] - finest).max()
        for steps in (50, 100, 200)
    ]
    ratios = np.divide(errors[:-1], errors[1:])
    assert ratios == pytest.approx([4.0, 4.0], rel=0.05)
    # The reference takes 2000 steps.
    assert errors[-1] / (2000 / 200) ** 2 < 1e-6


def test_etdrk4_is_of_fourth_order() -> None:
    finest = allen_cahn.integrate(1e-2, 5.0, num_steps=1280, size=128)[-1]
    errors = [
        np.abs(allen_cahn.integrate(1e-2, 5.0, num_steps=steps, size=128)[-1] - finest).max() for steps in (20, 40, 80)
    ]
    assert np.log2(np.divide(errors[:-1], errors[1:])) == pytest.approx([4.0, 4.0], abs=0.35)


def test_etdrk4_is_exact_for_the_heat_equation() -> None:
    place = np.arange(32) * (2 * np.pi / 32)
    modes = np.arange(17, dtype=np.float64)
    solved = etdrk4(np.cos(3 * place), -(modes**2), np.zeros_like, duration=0.5, num_steps=7)[-1]
    np.testing.assert_allclose(solved, np.exp(-4.5) * np.cos(3 * place), atol=1e-14)


def test_allen_cahn_agrees_with_an_ode_solver() -> None:
    size = 128
    place = np.arange(size) * (2.0 / size) - 1.0
    modes = (np.pi * np.arange(size // 2 + 1)) ** 2

    def right_hand_side(_: float, u: np.ndarray) -> np.ndarray:
        return -1e-2 * np.fft.irfft(modes * np.fft.rfft(u), n=size) + 5 * (u - u**3)

    start = place**2 * np.cos(np.pi * place)
    solved = solve_ivp(right_hand_side, (0, 1), start, method="Radau", rtol=1e-9, atol=1e-10).y[:, -1]
    ours = allen_cahn.integrate(1e-2, 5.0, num_steps=200, size=size)[-1]
    np.testing.assert_allclose(ours, solved, atol=1e-6)


def test_solution_keeps_dtype() -> None:
    for problem in ALL:
        points = problem.points(4, uniform_sampler(torch.Generator().manual_seed(0)))
        for dtype in (torch.float32, torch.float64):
            assert problem.solution(points.to(dtype)).dtype == dtype
