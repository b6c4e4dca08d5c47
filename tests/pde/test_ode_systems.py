"""Systems of ordinary differential equations: their balances, and trajectories that are known otherwise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from scipy.interpolate import make_interp_spline
from scipy.optimize import brentq

from lightning_regimes.pde import (
    DampedPendulum,
    Lorenz,
    LotkaVolterra,
    ODESystem,
    TwoBody,
    VanDerPol,
    sobol_sampler,
)

SYSTEMS = [
    DampedPendulum(),
    DampedPendulum(damping=0.0),
    LotkaVolterra(),
    Lorenz(),
    TwoBody(),
    TwoBody(eccentricity=0.6),
    VanDerPol(),
]


@pytest.mark.parametrize("system", SYSTEMS, ids=repr)
def test_quantities_change_along_trajectories_at_their_known_rates(system: ODESystem) -> None:
    step = 0.0025 if isinstance(system, Lorenz) else 0.01
    times = step * torch.arange(round(system.duration / step) + 1, dtype=torch.float64)
    states = system.solve(system.initial_states(4, sobol_sampler(1)), times)
    rates = system.quantity_rates(states)
    for name, values in system.quantities(states).items():
        spline = make_interp_spline(times.numpy(), rates[name].numpy(), k=7, axis=1)
        gained = torch.from_numpy(spline.antiderivative()(times.numpy()))
        error = (values - values[:, :1] - gained).abs().max() / values.abs().max()
        assert error < 1e-8, name


@pytest.mark.parametrize("system", SYSTEMS, ids=repr)
def test_known_rates_are_the_derivatives_along_the_system(system: ODESystem) -> None:
    states = system.initial_states(64, sobol_sampler(2))
    rates = system.quantity_rates(states)
    found = system.rates_along(states, system.derivative(states))
    assert rates.keys() == found.keys() == system.quantities(states).keys()
    for name in rates:
        torch.testing.assert_close(found[name], rates[name], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("system", SYSTEMS, ids=repr)
def test_trajectories_are_those_of_another_solver(system: ODESystem) -> None:
    initial = system.initial_states(3, sobol_sampler(3))
    times = torch.linspace(0, min(system.duration, 6.0), 13, dtype=torch.float64)
    states = system.solve(initial, times)

    def right_hand_side(_: float, state: np.ndarray) -> np.ndarray:
        return system.derivative(torch.from_numpy(state)).numpy()

    for start, trajectory in zip(initial, states, strict=True):
        span = (0.0, float(times[-1]))
        other = solve_ivp(right_hand_side, span, start.numpy(), method="LSODA", t_eval=times, rtol=1e-12, atol=1e-12)
        scale = trajectory.abs().max().item()
        assert np.abs(other.y.T - trajectory.numpy()).max() < 1e-7 * scale


@settings(max_examples=10, deadline=None)
@given(damping=st.floats(0.0, 1.9), angle=st.floats(1e-7, 1e-5))
def test_a_small_swing_is_the_damped_oscillation(damping: float, angle: float) -> None:
    times = torch.linspace(0, 10, 21, dtype=torch.float64)
    theta = DampedPendulum(damping).solve(torch.tensor([[angle, 0.0]], dtype=torch.float64), times)[0, :, 0]
    half, frequency = damping / 2, math.sqrt(1 - damping**2 / 4)
    expected = torch.exp(-half * times) * (
        torch.cos(frequency * times) + half / frequency * torch.sin(frequency * times)
    )
    # What the sine leaves out is of third order, and the absolute tolerance of a step is 1e-12.
    assert (theta - angle * expected).abs().max() < 1e-11 + angle**3 * 10


@pytest.mark.parametrize("eccentricity", [0.0, 0.3, 0.6])
def test_orbits_solve_keplers_equation(eccentricity: float) -> None:
    system = TwoBody(eccentricity=eccentricity)
    initial = system.initial_states(4, sobol_sampler(4))
    times = torch.linspace(0, 4 * math.pi, 30, dtype=torch.float64)
    states = system.solve(initial, times)
    for start, orbit in zip(initial, states, strict=True):
        radius = float(start[:2].norm())
        e, angle = 1 - radius, math.atan2(start[1], start[0])
        for time, (x, y) in zip(times.tolist(), orbit[:, :2].tolist(), strict=True):
            anomaly = brentq(lambda value, t=time, e=e: value - e * math.sin(value) - t, time - 1, time + 1, xtol=1e-14)
            u, v = math.cos(anomaly) - e, math.sqrt(1 - e**2) * math.sin(anomaly)
            assert x == pytest.approx(u * math.cos(angle) - v * math.sin(angle), abs=2e-8)
            assert y == pytest.approx(u * math.sin(angle) + v * math.cos(angle), abs=2e-8)


def test_the_period_of_van_der_pols_limit_cycle() -> None:
    # 6.66328686 for mu = 1, known to many digits from its expansion.
    times = torch.linspace(0, 60, 60_001, dtype=torch.float64)
    x = VanDerPol(mu=1.0).solve(torch.tensor([[2.0, 0.0]], dtype=torch.float64), times)[0, :, 0].numpy()
    roots = make_interp_spline(times.numpy(), x, k=3)
    at = [brentq(roots, times[i], times[i + 1]) for i in np.flatnonzero((x[:-1] < 0) & (x[1:] >= 0))]
    assert at[-1] - at[-2] == pytest.approx(6.6632868593, abs=1e-7)


def test_equilibria_do_not_move() -> None:
    root = math.sqrt(8 / 3 * 27)
    for system, state in (
        (DampedPendulum(), [0.0, 0.0]),
        (LotkaVolterra(), [3.0, 1.5]),
        (Lorenz(), [root, root, 27.0]),
        (VanDerPol(), [0.0, 0.0]),
    ):
        assert system.derivative(torch.tensor([state], dtype=torch.float64)).abs().max() < 1e-12


def test_the_coefficient_that_makes_it_hard_can_be_replaced() -> None:
    system = DampedPendulum(damping=1.0).with_coefficient(0.25)
    assert system == DampedPendulum(damping=0.25)
    assert system.coefficient_value == 0.25


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DampedPendulum(damping=-1.0), "`damping`"),
        (lambda: LotkaVolterra(gamma=0.0), "`gamma`"),
        (lambda: Lorenz(beta=-1.0), "`beta`"),
        (lambda: TwoBody(eccentricity=1.0), "`eccentricity`"),
        (lambda: VanDerPol(mu=-1.0), "`mu`"),
        (lambda: VanDerPol().solve(torch.zeros(3), torch.arange(3.0)), "`initial`"),
        (lambda: VanDerPol().solve(torch.zeros(1, 2), torch.tensor([0.0, 2.0, 1.0])), "increasing times"),
        (lambda: VanDerPol().solve(torch.zeros(1, 2), torch.arange(3.0), tolerance=0.0), "`tolerance`"),
    ],
)
def test_wrong_arguments_raise(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_trajectory_that_ends_is_an_error() -> None:
    # Released at rest, the two bodies collide.
    with pytest.raises(RuntimeError, match="could not be integrated"):
        TwoBody().solve(
            torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64), torch.tensor([0.0, 3.0], dtype=torch.float64)
        )
