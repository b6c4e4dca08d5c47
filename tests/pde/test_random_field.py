"""Random fields have the covariance that they are said to have, and are the same on every grid."""

import math
import re

import numpy as np
import pytest
import torch
from scipy.fft import dctn

from lightning_regimes.pde import GaussianRandomField

NEUMANN = GaussianRandomField()
PERIODIC = GaussianRandomField(exponent=2.5, inverse_length=7.0, scale=7**1.5, boundary="periodic")


def variances(field: GaussianRandomField, size: int) -> np.ndarray:
    """The variance of each Fourier coefficient with respect to exp(2πi k·x)."""
    modes = np.fft.fftfreq(size, 1 / size) * (2 * math.pi / field.length)
    eigenvalues = modes[:, None] ** 2 + modes**2 + field.inverse_length**2
    expected = field.scale * eigenvalues**-field.exponent
    expected[0, 0] = 0.0
    return expected


@pytest.mark.parametrize("length", [1.0, 2 * math.pi])
def test_periodic_spectrum(length: float) -> None:
    field = GaussianRandomField(exponent=2.5, inverse_length=7.0, scale=3.0, boundary="periodic", length=length)
    size, count = 16, 4000
    fields = field.sample(range(count), resolution=size).numpy()
    measured = np.mean(np.abs(np.fft.fft2(fields) / size**2) ** 2, axis=0)
    below_highest = np.abs(np.fft.fftfreq(size, 1 / size)) < size / 2
    inside = np.ix_(below_highest, below_highest)
    expected = variances(field, size)[inside]
    # |c_k|² is exponentially distributed: its mean over N draws has the relative deviation 1/sqrt(N).
    ratio = measured[inside][expected > 0] / expected[expected > 0]
    assert np.abs(ratio - 1).max() < 5 * np.sqrt(2 / count)
    assert measured[0, 0] < 1e-30
    assert np.abs(measured[size // 2]).max() < 1e-30


def test_neumann_spectrum() -> None:
    size, count = 17, 4000
    fields = NEUMANN.sample(range(count), resolution=size).numpy()
    coefficients = dctn(fields, type=1, axes=(1, 2), norm=None) / (size - 1) ** 2
    coefficients[:, [0, -1], :] /= math.sqrt(2)
    coefficients[:, :, [0, -1]] /= math.sqrt(2)
    modes = np.arange(size) * math.pi
    expected = (modes[:, None] ** 2 + modes**2 + 9) ** -2.0
    # Functions are normalized on the square: φ = 2 cos cos inside, √2 cos on an axis.
    measured = np.mean((coefficients[:, : size - 1, : size - 1] / 2) ** 2, axis=0)
    inner = measured[1:, 1:] / expected[1 : size - 1, 1 : size - 1]
    axis = measured[0, 1:] / expected[0, 1 : size - 1]
    assert np.abs(inner - 1).max() < 5.5 * np.sqrt(2 / count)
    assert np.abs(axis - 1).max() < 5 * np.sqrt(2 / count)


@pytest.mark.parametrize("field", [NEUMANN, PERIODIC], ids=["neumann", "periodic"])
def test_a_field_is_the_same_on_every_grid(field: GaussianRandomField) -> None:
    sizes = (9, 17, 33) if field.boundary == "neumann" else (8, 16, 32)
    coarse, middle, fine = (field.sample([3], resolution=size, seed=(5,), num_modes=40) for size in sizes)
    torch.testing.assert_close(fine[..., ::2, ::2], middle, atol=1e-13, rtol=0)
    torch.testing.assert_close(middle[..., ::2, ::2], coarse, atol=1e-13, rtol=0)


def test_a_finer_grid_adds_higher_modes_only() -> None:
    coarse, fine = (PERIODIC.sample([0], resolution=size) for size in (16, 32))
    low = np.fft.fft2(coarse.numpy())[0] / 16**2
    high = np.fft.fft2(fine.numpy())[0] / 32**2
    kept = np.arange(-7, 8)
    np.testing.assert_allclose(low[np.ix_(kept, kept)], high[np.ix_(kept, kept)], atol=1e-15)


def test_a_field_depends_on_its_number_and_the_seed_only() -> None:
    together = NEUMANN.sample([0, 1, 7], resolution=9, seed=(4, 2))
    alone = NEUMANN.sample([7], resolution=9, seed=(4, 2))
    torch.testing.assert_close(together[2:], alone, atol=1e-15, rtol=0)
    assert not torch.allclose(alone, NEUMANN.sample([7], resolution=9, seed=(4, 3)))
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    NEUMANN.sample([0], resolution=5)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exponent": 1.0}, "`exponent` must be above 1, got 1.0"),
        ({"scale": 0.0}, "`scale` must be positive"),
        ({"inverse_length": -1.0}, "`inverse_length` must not be negative"),
        ({"boundary": "dirichlet"}, "`boundary` must be"),
    ],
)
def test_wrong_arguments_raise(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        GaussianRandomField(**arguments)
    with pytest.raises(ValueError, match="`resolution` must be at least 2"):
        NEUMANN.sample([0], resolution=1)
