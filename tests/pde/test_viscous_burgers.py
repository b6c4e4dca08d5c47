"""The viscous Burgers solver against the Cole–Hopf solution, its conservation law, and its order."""

import math

import numpy as np
import pytest
import torch
from scipy.special import iv

from lightning_regimes.pde import ViscousBurgers


def cole_hopf(size: int, *, viscosity: float, time: float, amplitude: float) -> np.ndarray:
    """The solution from A sin 2πx: −2ν φ_x/φ, with φ of the heat equation from exp(A cos 2πx / (4πν)) (Bessel series)."""
    place = np.arange(size) / size
    strength = amplitude / (4 * math.pi * viscosity)
    modes = np.arange(1, 60)
    decay = iv(modes, strength) * np.exp(-viscosity * (2 * math.pi * modes) ** 2 * time)
    angles = 2 * math.pi * np.outer(place, modes)
    value = iv(0, strength) + 2 * np.cos(angles) @ decay
    slope = -2 * np.sin(angles) @ (2 * math.pi * modes * decay)
    return np.asarray(-2 * viscosity * slope / value)


def test_against_the_exact_solution() -> None:
    place = torch.arange(128, dtype=torch.float64) / 128
    problem = ViscousBurgers(viscosity=0.02)
    frames = problem.solve(torch.sin(2 * math.pi * place), num_frames=3, frame_interval=0.25)
    assert frames.shape == (3, 128)
    for number, time in enumerate((0.0, 0.25, 0.5)):
        exact = cole_hopf(128, viscosity=0.02, time=time, amplitude=1.0)
        np.testing.assert_allclose(frames[number], exact, atol=1e-7)


def test_steps_are_of_fourth_order() -> None:
    initial = ViscousBurgers().initial([0], resolution=64)
    finest = ViscousBurgers(step=0.00025).solve(initial)[:, -1]
    errors = [
        (ViscousBurgers(step=step).solve(initial)[:, -1] - finest).abs().max().item() for step in (0.01, 0.005, 0.0025)
    ]
    assert np.log2(np.divide(errors[:-1], errors[1:])) == pytest.approx([4, 4], abs=0.35)
    assert errors[-1] < 1e-7


def test_mean_is_kept_and_initial_values_have_their_variance() -> None:
    problem = ViscousBurgers()
    initial = problem.initial(range(2000), resolution=64)
    wave_numbers = 2 * math.pi * np.arange(1, 32)
    variance = 2 * (625 * (wave_numbers**2 + 25) ** -2.0).sum()
    assert initial.square().mean().item() == pytest.approx(variance, rel=0.05)
    frames = problem.solve(initial[:3] + 0.5)
    torch.testing.assert_close(frames.mean(dim=-1), torch.full((3, 2), 0.5, dtype=torch.float64), atol=1e-12, rtol=0)


def test_wrong_arguments_raise() -> None:
    with pytest.raises(ValueError, match="`viscosity` must be positive"):
        ViscousBurgers(viscosity=0.0)
    with pytest.raises(ValueError, match="`num_frames` must be at least 1"):
        ViscousBurgers().solve(torch.zeros(8), num_frames=0)
    with pytest.raises(ValueError, match="`frame_interval` must be positive"):
        ViscousBurgers().solve(torch.zeros(8), frame_interval=0.0)
    with pytest.raises(FloatingPointError, match="lower `step`"):
        ViscousBurgers(step=0.5).solve(1e9 * ViscousBurgers().initial([0], resolution=32), num_frames=20)
