"""Steady transport against closed forms and finite differences, and its random coefficients against their ranges."""

import math
import re

import numpy as np
import pytest
import torch

from lightning_regimes.pde import GaussianSources, SteadyTransport

TRANSPORT = SteadyTransport(eigenvalues=(2.0, 8.0), advection=(0.3, 2.0))


def test_a_wave_is_solved_exactly() -> None:
    # u = sin(2π(x + 2y)): −∇·(K ∇u) = 4π² (K_xx + 4 K_xy + 4 K_yy) u, and v·∇u = 2π (v_x + 2 v_y) cos(…).
    size = 16
    place = torch.arange(size, dtype=torch.float64) / size
    angle = 2 * math.pi * (place[:, None] + 2 * place)
    tensor, velocity = torch.tensor([2.0, 0.5, 3.0]).double(), torch.tensor([5.0, -7.0]).double()
    source = 4 * math.pi**2 * 16 * torch.sin(angle) + 2 * math.pi * (-9) * torch.cos(angle)
    solution = SteadyTransport().solve(source, tensor, velocity)
    torch.testing.assert_close(solution, torch.sin(angle), atol=1e-13, rtol=0)
    torch.testing.assert_close(
        SteadyTransport().residual(source, tensor, velocity, solution), torch.zeros_like(source), atol=1e-10, rtol=0
    )


def test_solution_against_finite_differences() -> None:
    # Fourth-order central differences of the smooth solution on a fine grid give the source back.
    source, tensor, velocity = TRANSPORT.sample([0, 1], resolution=256)
    u = TRANSPORT.solve(source, tensor, velocity)

    def slope(field: torch.Tensor, axis: int) -> torch.Tensor:
        one = field.roll(-1, axis) - field.roll(1, axis)
        two = field.roll(-2, axis) - field.roll(2, axis)
        return (8 * one - two) * 256 / 12

    u_x, u_y = slope(u, 1), slope(u, 2)
    xx, xy, yy = (entry[:, None, None] for entry in tensor.unbind(1))
    along_x, along_y = (entry[:, None, None] for entry in velocity.unbind(1))
    flux_x, flux_y = xx * u_x + xy * u_y, xy * u_x + yy * u_y
    found = -slope(flux_x, 1) - slope(flux_y, 2) + along_x * u_x + along_y * u_y
    assert (found - source).abs().max() < 2e-3 * source.abs().max()


@pytest.mark.parametrize("size", [32, 33])
def test_residual_vanishes_at_the_solution_and_carries_gradients(size: int) -> None:
    source, tensor, velocity = TRANSPORT.sample(range(3), resolution=size)
    solution = TRANSPORT.solve(source, tensor, velocity).requires_grad_()
    residual = TRANSPORT.residual(source, tensor, velocity, solution)
    # The solver leaves the mean of the source on the grid out, which is that of what the grid doesn't resolve.
    residual = residual + source.mean(dim=(1, 2), keepdim=True)
    assert residual.abs().max() < 1e-11
    assert solution.mean(dim=(1, 2)).abs().max() < 1e-16
    (gradient,) = torch.autograd.grad(residual.square().sum() + residual[0, 0, 0], solution)
    assert gradient.abs().max() > 0


def test_coefficients_lie_in_their_ranges() -> None:
    source, tensor, velocity = TRANSPORT.sample(range(200), resolution=64)
    matrices = torch.stack([tensor[:, :2], tensor[:, 1:]], dim=1)
    lowest, highest = torch.linalg.eigvalsh(matrices).unbind(1)
    torch.testing.assert_close(lowest, torch.ones_like(lowest))
    assert 2 <= highest.min() < 2.3
    assert 7.7 < highest.max() <= 8
    solution = TRANSPORT.solve(source, tensor, velocity)
    still = torch.zeros_like(velocity)
    diffusion = TRANSPORT.residual(torch.zeros_like(source), tensor, still, solution)
    shares = (source - source.mean(dim=(1, 2), keepdim=True) - diffusion).norm(dim=(1, 2)) / diffusion.norm(dim=(1, 2))
    assert 0.3 <= shares.min() < 0.4
    assert 1.9 < shares.max() <= 2.0 + 1e-9
    assert shares.mean().item() == pytest.approx(1.15, abs=0.15)


def test_samples_are_the_same_on_every_grid() -> None:
    coarse, fine = (TRANSPORT.sample([4], resolution=size, seed=(3,)) for size in (64, 128))
    torch.testing.assert_close(fine[0][..., ::2, ::2], coarse[0], atol=1e-14, rtol=0)
    torch.testing.assert_close(fine[2], coarse[2], rtol=1e-9, atol=0)
    solutions = [TRANSPORT.solve(*sample) for sample in (coarse, fine)]
    # Gaussians of width 1/32 have 1e-9 of their amplitude above the modes of 64 nodes.
    scale = solutions[1].abs().max()
    assert (solutions[1][..., ::2, ::2] - solutions[0]).abs().max() < 1e-8 * scale


def test_sources_are_periodic_sums_of_gaussians_with_mean_zero() -> None:
    sources = GaussianSources(centers=1, width=0.1, density=(1.0, 1.0)).sample([0], resolution=64)[0].numpy()
    weight = sources.max() - sources.min()
    place = np.arange(64) / 64
    distance = np.minimum(place, 1 - place)
    expected = np.exp(-(distance[:, None] ** 2 + distance**2) / 0.02)
    np.testing.assert_allclose((sources - sources.min()) / weight, expected - expected.min(), atol=2e-5)
    assert abs(GaussianSources().sample(range(5), resolution=128).mean(dim=(1, 2))).max() < 1e-15


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SteadyTransport(eigenvalues=(0.5, 2.0)), "`eigenvalues` must be a range from 1 on, got (0.5, 2.0)"),
        (lambda: SteadyTransport(eigenvalues=(3.0, 2.0)), "`eigenvalues` must be a range"),
        (lambda: SteadyTransport(advection=(-1.0, 2.0)), "`advection` must be a range from 0 on"),
        (lambda: SteadyTransport(advection=(0.0, 2.0)), "`advection` must be two zeros or begin above zero"),
        (lambda: SteadyTransport(advection=(1e9, 1e9)).sample([0], resolution=16), "lower `advection`"),
        (lambda: GaussianSources(centers=0), "`centers` must be at least 1"),
        (lambda: GaussianSources(width=0.5), "`width` must lie above 0 and be at most 0.25"),
        (lambda: GaussianSources(density=(0.0, 0.5)), "`density` must be a range above 0"),
        (lambda: GaussianSources().sample([0], resolution=1), "`resolution` must be at least 2"),
        (
            lambda: SteadyTransport().residual(torch.zeros(4, 4), torch.ones(3), torch.zeros(2), torch.zeros(4, 5)),
            "`source` and `solution` must both be",
        ),
    ],
)
def test_wrong_arguments_raise(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()  # type: ignore[operator]
