"""The published way to powers without a decomposition, restated here, needs more products and is less accurate."""

import pytest
import torch

from lightning_regimes.optim import newton_schulz, spectral_power
from lightning_regimes.spectral import power_expansion

ROWS, COLUMNS = 384, 256
NUM_ROOTS, NUM_NEWTON_STEPS = 4, 5
NUM_PRODUCTS = 15 + 1 + NUM_ROOTS * NUM_NEWTON_STEPS * 3 + 1


def nested_square_roots(x):
    """HTMuon_NS of arXiv:2603.10067: NS5(M) times the sixteenth root of MᵀM, by coupled Newton iterations."""
    identity = torch.eye(x.shape[1])
    root = x.mT @ x + 1e-6 * identity
    for _ in range(NUM_ROOTS):
        norm = root.norm()
        y, z = root / norm, identity
        for _ in range(NUM_NEWTON_STEPS):
            t = 3 * identity - z @ y
            y, z = 0.5 * y @ t, 0.5 * t @ z
        root = y * norm.sqrt()
    return newton_schulz(x) @ root


def gaussian(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_values(values):
    left = torch.linalg.qr(gaussian(ROWS, COLUMNS, seed=1)).Q
    return (left * values) @ torch.linalg.qr(gaussian(COLUMNS, COLUMNS, seed=2)).Q.mT


SPECTRA = {
    "gaussian": lambda: gaussian(ROWS, COLUMNS, seed=0),
    "two decades": lambda: with_values(torch.logspace(0, -2, COLUMNS, dtype=torch.float64)),
    "three decades": lambda: with_values(torch.logspace(0, -3, COLUMNS, dtype=torch.float64)),
    "1/k": lambda: with_values(1 / torch.arange(1, COLUMNS + 1, dtype=torch.float64)),
    "low rank and noise": lambda: (
        gaussian(ROWS, 16, seed=3) @ gaussian(16, COLUMNS, seed=4) / 4 + 0.03 * gaussian(ROWS, COLUMNS, seed=5)
    ),
}


def error(actual, expected):
    return float((actual.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("scale", [1.0, 1e-2])
@pytest.mark.parametrize("name", SPECTRA)
def test_a_third_of_the_products_gives_a_tenth_of_the_error(name, scale):
    exact = SPECTRA[name]()
    exact = exact * (scale / torch.linalg.matrix_norm(exact, 2))
    x = exact.float()
    expected = spectral_power(exact, 1 / 8, method="svd")
    ours = error(spectral_power(x, 1 / 8, method="polynomial"), expected)
    assert ours <= 0.015
    assert ours <= error(nested_square_roots(x), expected) / 10
    assert 3 * power_expansion(1 / 8).num_matmuls(x.shape) <= NUM_PRODUCTS


def test_fifteen_products_suffice_for_a_narrow_spectrum():
    exact = SPECTRA["gaussian"]()
    expected = spectral_power(exact, 1 / 8, method="svd")
    ours = error(spectral_power(exact.float(), 1 / 8, method="polynomial", lower=1e-2), expected)
    assert ours <= error(nested_square_roots(exact.float()), expected) / 50
    assert 5 * power_expansion(1 / 8, lower=1e-2).num_matmuls(exact.shape) <= NUM_PRODUCTS


def test_the_restatement_is_the_published_scheme():
    # Figures of the scheme on such matrices: it forgets small singular values, and its absolute shift forgets scale.
    x = with_values(1 / torch.arange(1, COLUMNS + 1, dtype=torch.float64))
    errors = [
        error(nested_square_roots((x * scale).float()), spectral_power(x * scale, 1 / 8, method="svd"))
        for scale in (1.0, 1e-2)
    ]
    assert errors == pytest.approx([0.755, 0.35], abs=0.02)
    assert NUM_PRODUCTS == 77
