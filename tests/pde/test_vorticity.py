"""The flow solver against closed forms, its conservation laws, and its order."""

import math

import numpy as np
import pytest
import torch

from lightning_regimes.pde import KolmogorovFlow, NavierStokesFlow, VorticityEquation, integrate_vorticity


def taylor_green(size: int) -> torch.Tensor:
    """The vorticity cos 2πx cos 2πy, which the flow only damps: w·exp(−8π²νt)."""
    wave = torch.cos(2 * math.pi * torch.arange(size, dtype=torch.float64) / size)
    return wave[:, None] * wave


def test_taylor_green_decays_at_the_exact_rate() -> None:
    viscosity, size = 1e-3, 32
    equation = VorticityEquation(resolution=size, viscosity=viscosity)
    frames = integrate_vorticity(equation, taylor_green(size), num_frames=3, frame_interval=1.0, step=0.02)
    rates = -torch.log(frames[1:].abs().amax(dim=(1, 2)) / frames[0].max()) / torch.tensor([1.0, 2.0])
    assert rates.tolist() == pytest.approx([8 * math.pi**2 * viscosity] * 2, rel=1e-6)
    torch.testing.assert_close(frames[1] / frames[1].max(), frames[0], atol=1e-12, rtol=0)


def test_velocity_belongs_to_the_vorticity() -> None:
    size = 24
    equation = NavierStokesFlow().equation(size)
    spectrum = equation.transform(NavierStokesFlow().initial([0], resolution=size)[0])
    along_x, along_y = equation.velocity(spectrum)
    wave = 2j * math.pi * np.fft.fftfreq(size, 1 / size)
    u, v = np.fft.fft2(along_x), np.fft.fft2(along_y)
    np.testing.assert_allclose(wave[:, None] * u + wave * v, 0, atol=1e-10)
    curl = np.fft.ifft2(wave[:, None] * v - wave * u).real
    np.testing.assert_allclose(curl, equation.values(spectrum), atol=1e-13)


def test_a_moving_frame_is_turned_the_right_way() -> None:
    # w = cos 2πy + ε sin 2πx: the shear u = ψ_y carries the second term, d/dt of its coefficient is −u·∂_x.
    size = 16
    place = torch.arange(size, dtype=torch.float64) / size
    equation = VorticityEquation(resolution=size, viscosity=0.0)
    w = torch.cos(2 * math.pi * place) + 1e-3 * torch.sin(2 * math.pi * place)[:, None]
    rate = equation.values(equation.explicit(equation.transform(w)))
    # −Δψ = w gives ψ = w/(4π²), so that v = (−sin 2πy, −ε cos 2πx)/(2π).
    x, y = place[:, None], place[None]
    expected = 1e-3 * torch.sin(2 * math.pi * y) * torch.cos(2 * math.pi * x)
    expected -= 1e-3 * torch.cos(2 * math.pi * x) * torch.sin(2 * math.pi * y)
    torch.testing.assert_close(rate, expected.expand(size, size), atol=1e-15, rtol=0)
    shear = torch.cos(2 * math.pi * y) + 1e-3 * torch.sin(4 * math.pi * x)
    rate = equation.values(equation.explicit(equation.transform(shear)))
    # Now v·∇w = ε (−sin 2πy · 2 cos 4πx + cos 4πx sin 2πy / 2).
    expected = 1e-3 * torch.cos(4 * math.pi * x) * torch.sin(2 * math.pi * y) * (2 - 0.5)
    torch.testing.assert_close(rate, expected, atol=1e-15, rtol=0)


@pytest.mark.parametrize(
    "flow", [NavierStokesFlow(viscosity=1e-3, initial_scale=7**3), KolmogorovFlow(reynolds=100.0, drag=0.1)], ids=repr
)
def test_energy_and_enstrophy_budgets_close(flow: NavierStokesFlow | KolmogorovFlow) -> None:
    # dE/dt = −2νZ − 2μE + <ψ g> and dZ/dt = −2νP − 2μZ + <w g>, integrated over dense output by Simpson's rule.
    size, interval = 32, 0.02
    viscosity = flow.viscosity if isinstance(flow, NavierStokesFlow) else 1 / flow.reynolds
    drag = 0.0 if isinstance(flow, NavierStokesFlow) else flow.drag
    length = 1.0 if isinstance(flow, NavierStokesFlow) else 2 * math.pi
    equation = flow.equation(size)
    start = flow.solve(flow.initial([0], resolution=size), num_frames=2, frame_interval=1.0)[:, -1]
    steps = 0.004
    frames = integrate_vorticity(equation, start, num_frames=51, frame_interval=interval, step=steps)[0]
    w = np.fft.fft2(frames.numpy()) / size**2
    wave = 2 * math.pi / length * np.fft.fftfreq(size, 1 / size)
    squared = wave[:, None] ** 2 + wave**2
    inverse = np.divide(1, squared, out=np.zeros_like(squared), where=squared > 0)
    resting = equation.explicit(torch.zeros_like(equation.transform(start[0])))
    forcing = np.fft.fft2(equation.values(resting).numpy()) / size**2
    energy = (inverse * np.abs(w) ** 2).sum(axis=(1, 2)) / 2
    enstrophy = (np.abs(w) ** 2).sum(axis=(1, 2)) / 2
    palinstrophy = (squared * np.abs(w) ** 2).sum(axis=(1, 2)) / 2
    into_energy = (inverse * w.conj() * forcing).sum(axis=(1, 2)).real
    into_enstrophy = (w.conj() * forcing).sum(axis=(1, 2)).real
    weights = np.ones(51)
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    for held, loss, gain in (
        (energy, enstrophy, into_energy),
        (enstrophy, palinstrophy, into_enstrophy),
    ):
        rate = -2 * viscosity * loss - 2 * drag * held + gain
        change = held[-1] - held[0]
        closure = abs(change - interval / 3 * (weights @ rate))
        assert closure < 1e-5 * np.abs(rate).max()
        assert abs(change) > 1e-2 * held[0]


def test_without_viscosity_and_forcing_energy_and_enstrophy_are_kept() -> None:
    size = 32
    equation = VorticityEquation(resolution=size, viscosity=0.0)
    initial = NavierStokesFlow(initial_scale=7**3).initial([1], resolution=size)
    frames = integrate_vorticity(equation, initial, num_frames=2, frame_interval=1.0, step=0.005)[0]
    spectra = equation.transform(frames)
    enstrophy = (frames**2).mean(dim=(1, 2))
    energy = torch.stack([sum((part**2).mean() for part in equation.velocity(entry)) for entry in spectra])
    assert (enstrophy[1] / enstrophy[0] - 1).abs() < 1e-7
    assert (energy[1] / energy[0] - 1).abs() < 1e-7


@pytest.mark.parametrize("flow", [NavierStokesFlow, KolmogorovFlow])
def test_steps_are_of_second_order(flow: type[NavierStokesFlow] | type[KolmogorovFlow]) -> None:
    longest = 0.04 if flow is NavierStokesFlow else 0.02
    initial = 4 * flow().initial([0], resolution=24)
    finest = flow(step=longest / 32).solve(initial, num_frames=2)[:, -1]
    errors = [
        (flow(step=longest / cut).solve(initial, num_frames=2)[:, -1] - finest).norm().item() for cut in (1, 2, 4)
    ]
    assert np.log2(np.divide(errors[:-1], errors[1:])) == pytest.approx([2, 2], abs=0.1)
    assert errors[1] < 1e-3 * finest.norm()


def test_modes_are_of_spectral_accuracy() -> None:
    # The initial field has wave numbers below 5; the error falls faster than any power of the resolution.
    field = NavierStokesFlow(initial_scale=7**3).field
    flow = NavierStokesFlow(viscosity=5e-3)
    ends = {
        size: flow.solve(field.sample([0], resolution=size, num_modes=9), num_frames=2)[0, -1] for size in (16, 32, 64)
    }
    errors = [(ends[size] - ends[64][:: 64 // size, :: 64 // size]).norm().item() / size for size in (16, 32)]
    assert errors[1] < 1e-3 * errors[0]


def test_forcing_is_the_published_one() -> None:
    size = 16
    equation = NavierStokesFlow().equation(size)
    resting = torch.zeros_like(equation.transform(torch.zeros(size, size)))
    forcing = equation.values(equation.explicit(resting))
    assert forcing[0, 0].item() == pytest.approx(0.1)
    assert forcing[1, 1].item() == pytest.approx(0.1 * math.sqrt(2))
    equation = KolmogorovFlow().equation(size)
    forcing = equation.values(equation.explicit(resting))
    # The wave has four nodes a period along the second axis, and is constant along the first.
    torch.testing.assert_close(
        forcing, torch.tensor([-4.0, 0.0, 4.0, 0.0], dtype=torch.float64).repeat(size, 4), atol=1e-14, rtol=0
    )


def test_samples_of_a_batch_do_not_mix() -> None:
    flow = NavierStokesFlow()
    initial = flow.initial(range(3), resolution=16)
    together = flow.solve(initial, num_frames=3)
    torch.testing.assert_close(flow.solve(initial[1], num_frames=3), together[1], atol=1e-14, rtol=0)


def test_wrong_arguments_raise() -> None:
    equation = VorticityEquation(resolution=8, viscosity=1e-3)
    initial = torch.zeros(8, 8)
    for message, change in (
        ("`num_frames` must be at least 1, got 0", {"num_frames": 0}),
        ("`frame_interval` must be positive, got -1", {"frame_interval": -1.0}),
        ("`step` must be positive, got 0", {"step": 0.0}),
    ):
        with pytest.raises(ValueError, match=message):
            integrate_vorticity(equation, initial, **{"num_frames": 2, "frame_interval": 1.0, "step": 0.1, **change})
    with pytest.raises(ValueError, match=r"`initial` must be \(…, 8, 8\), got \(4, 4\)"):
        integrate_vorticity(equation, torch.zeros(4, 4), num_frames=2, frame_interval=1.0, step=0.1)
    with pytest.raises(ValueError, match="`viscosity` must not be negative"):
        NavierStokesFlow(viscosity=-1.0)
    with pytest.raises(ValueError, match="`reynolds` must be positive"):
        KolmogorovFlow(reynolds=0.0)
    with pytest.raises(FloatingPointError, match="lower `step`"):
        NavierStokesFlow(step=1.0).solve(1e8 * NavierStokesFlow().initial([0], resolution=16), num_frames=30)


@pytest.mark.peer
def test_against_exponax() -> None:
    exponax = pytest.importorskip("exponax")
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    # A flow that the grid resolves: the two differ by one in the wave numbers that they cut off.
    size, viscosity, step = 32, 5e-3, 0.0025
    initial = NavierStokesFlow(initial_scale=7**3).field.sample([0], resolution=size, num_modes=9)[0]
    stepper = exponax.stepper.NavierStokesVorticity(2, 1.0, size, step, diffusivity=viscosity)
    # Its vorticity turns the other way round.
    state = jax.numpy.asarray(-initial.numpy())[None]
    for _ in range(400):
        state = stepper(state)
    equation = VorticityEquation(resolution=size, viscosity=viscosity)
    ours = integrate_vorticity(equation, initial, num_frames=2, frame_interval=1.0, step=step)[-1]
    np.testing.assert_allclose(-np.asarray(state[0]), ours, atol=1e-6 * float(ours.abs().max()))
