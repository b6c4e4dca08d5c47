"""Dense operators of a known spectrum."""

import pytest
import torch

from lightning_regimes.spectral import as_operator


@pytest.fixture
def with_spectrum():
    def make(eigenvalues, seed=0):
        generator = torch.Generator().manual_seed(seed)
        size = len(eigenvalues)
        vectors = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
        matrix = vectors * eigenvalues @ vectors.T
        return as_operator((matrix + matrix.T) / 2), vectors

    return make


@pytest.fixture
def random_vector():
    def make(size, seed=1):
        return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return make
