"""Spectra of fields whose modes are known, and Parseval's identity on all others."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.metrics import (
    VRMSE,
    SpectralBandError,
    band_edges,
    radial_spectrum,
    spectral_band_energy,
    spectral_band_errors,
    variance_scaled_errors,
)

SHAPES = st.lists(st.integers(2, 13), min_size=1, max_size=3).map(tuple)


def random_field(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bands_of_the_full_plane(field, edges):
    """All modes of the complex transform, one by one."""
    power = np.abs(np.fft.fftn(field.double().numpy())) ** 2 / field.numel() ** 2
    axes = np.meshgrid(*[2 * np.pi * np.fft.fftfreq(size) for size in field.shape], indexing="ij")
    frequency = np.sqrt(sum(axis**2 for axis in axes))
    return [power[(low <= frequency) & (frequency < high)].sum() for low, high in itertools.pairwise(edges)]


@given(shape=SHAPES, seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_bands_add_up_to_the_mean_square_and_equal_the_full_plane(shape, seed):
    field = random_field(*shape, seed=seed)
    edges = band_edges(shape)
    bands = spectral_band_energy(field, spatial_dims=len(shape))
    assert bands.sum().item() == pytest.approx(field.double().square().mean().item(), rel=1e-6)
    assert bands.tolist() == pytest.approx(bands_of_the_full_plane(field, edges.tolist()), rel=1e-9, abs=1e-12)


@given(shape=SHAPES, seed=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_shells_add_up_to_the_mean_square(shape, seed):
    field = random_field(2, *shape, seed=seed)
    energy = radial_spectrum(field, spatial_dims=len(shape)).energy
    mean_square = field.double().square().flatten(1).mean(dim=1)
    assert energy.sum(dim=-1).tolist() == pytest.approx(mean_square.tolist(), rel=1e-6)


def test_a_wave_lies_in_the_shell_of_its_number():
    x, y = torch.arange(24) / 24, torch.arange(40) / 40
    field = 3 * torch.cos(2 * math.pi * (3 * x[:, None] + 4 * y[None, :])) + 0.5
    spectrum = radial_spectrum(field)
    expected = torch.zeros(len(spectrum.wavenumbers), dtype=torch.float64)
    expected[0], expected[5] = 0.25, 4.5
    assert torch.allclose(spectrum.energy, expected, atol=1e-6)
    # On a domain three times as long in x the same samples are waves of a third of the number.
    long = radial_spectrum(field, lengths=(3.0, 1.0)).energy
    assert long[round(math.hypot(3, 12))].item() == pytest.approx(4.5, rel=1e-6)


def test_the_default_bands_are_thirds_of_the_logarithm():
    edges = band_edges((256, 256))
    assert edges[0] == 0
    # In units of the longest wave.
    assert (edges[1:] * 256 / (2 * math.pi)).tolist() == pytest.approx([5.657, 32.0, 181.02], rel=1e-3)


def test_an_error_at_one_wavenumber_is_in_one_band():
    x = torch.arange(64) / 64
    wave = 2 * torch.cos(2 * math.pi * 3 * x)[:, None].expand(64, 48)
    reference = random_field(5, 2, 64, 48)
    errors = spectral_band_errors(reference + wave, reference)
    assert torch.allclose(errors, torch.tensor([2.0, 0.0, 0.0], dtype=torch.float64), atol=1e-6)


def test_the_metric_does_not_depend_on_batches_and_divides_by_the_energy_on_request():
    predicted, reference = random_field(6, 2, 16, 10, seed=1), random_field(6, 2, 16, 10, seed=2)
    metric, relative = SpectralBandError(), SpectralBandError(relative=True)
    for part in (slice(0, 1), slice(1, 6)):
        metric.update(predicted[part], reference[part])
        relative.update(predicted[part], reference[part])
    errors = spectral_band_errors(predicted, reference).mean(dim=(0, 1))
    energy = spectral_band_energy(reference).mean(dim=(0, 1))
    assert torch.allclose(metric.compute(), errors, rtol=1e-12)
    assert torch.allclose(relative.compute(), errors / energy, rtol=1e-12)
    assert metric.compute().sum().item() == pytest.approx((predicted - reference).double().square().mean().item())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: band_edges((1, 1)), "two points"),
        (lambda: band_edges((8,), num_bands=0), "a band"),
        (lambda: spectral_band_energy(torch.zeros(4, 4), edges=torch.tensor([1.0, 0.5])), "ascending"),
        (lambda: spectral_band_errors(torch.zeros(4, 4), torch.zeros(4, 5)), "the same shape"),
        (lambda: radial_spectrum(torch.zeros(4, 4, dtype=torch.complex64)), "real"),
        (lambda: radial_spectrum(torch.zeros(4, 4), lengths=(1.0,)), "lengths"),
        (lambda: SpectralBandError(num_bands=0), "num_bands"),
    ],
)
def test_unusable_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.peer
@pytest.mark.usefixtures("double_precision")  # in single precision a wave on an edge falls on either side of it
@pytest.mark.parametrize("shape", [(48,), (32, 32), (24, 40), (33, 20), (8, 12, 10)])
def test_the_well_finds_the_same_errors(shape):
    peer = pytest.importorskip("the_well.benchmark.metrics")
    meta = SimpleNamespace(n_spatial_dims=len(shape))
    reference = 2 + random_field(3, 2, *shape, seed=1)
    predicted = reference + 0.3 * random_field(3, 2, *shape, seed=2)
    last = [field.movedim(1, -1) for field in (predicted, reference)]  # its channels come last

    bands = peer.binned_spectral_mse()(*last, meta)
    expected = torch.stack([bands[f"spectral_error_mse_per_bin_{band}"] for band in range(3)], dim=-1)
    found = spectral_band_errors(predicted, reference, spatial_dims=len(shape))
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-12)
    metric = SpectralBandError(spatial_dims=len(shape))
    metric.update(predicted, reference)
    assert torch.allclose(metric.compute(), expected.mean(dim=(0, 1)), rtol=1e-6)

    expected = peer.VRMSE()(*last, meta)
    assert torch.allclose(variance_scaled_errors(predicted, reference, spatial_dims=len(shape)), expected, rtol=1e-6)
    whole = VRMSE(spatial_dims=len(shape))
    whole.update(predicted, reference)
    assert whole.compute().item() == pytest.approx(expected.mean().item(), rel=1e-6)
