"""Batches of spectra, and of what probes say about them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_regimes.spectral.diagonal_probe import diagonal_probe
from lightning_regimes.spectral.spectral_probe import SpectralProbe
from lightning_regimes.spectral.spectrum_families import FAMILIES


class SpectrumBatch(NamedTuple):
    """Diagonal operators, a right-hand side for each, and the parts of a probe of each.

    Attributes:
        eigenvalues: shape (B, n), ascending.
        right_hand_side: shape (B, n).
        ritz: shape (B, m), as in :class:`SpectralProbe`.
        weights: shape (B, m).
        residuals: shape (B, m).
        upper: shape (B,).
    """

    eigenvalues: Tensor
    right_hand_side: Tensor
    ritz: Tensor
    weights: Tensor
    residuals: Tensor
    upper: Tensor

    @property
    def probe(self) -> SpectralProbe:
        """The probe."""
        return SpectralProbe(self.ritz, self.weights, self.residuals, self.upper, self.eigenvalues.shape[-1])


def draw_spectra(
    batch_size: int,
    *,
    seed: int,
    families: Sequence[str] = tuple(FAMILIES),
    condition: tuple[float, float] = (3.0, 1e7),
    size: int | tuple[int, int] = 256,
    probe_size: int = 10,
    probe_noise: float = 0.05,
) -> SpectrumBatch:
    r"""Return random spectra, the same for the same seed.

    Each is of a family and has a condition number, log-uniform; the right-hand side and the start of the probe are
    normal random vectors, and the Ritz values of half of the probes are off by up to ``probe_noise``.

    Args:
        batch_size: B.
        seed: of the private generator.
        families: names of :data:`~lightning_regimes.spectral.spectrum_families.FAMILIES`.
        condition: least and largest condition number.
        size: n, or the least and the largest, between which it is log-uniform.
        probe_size: m, Lanczos steps of the probe.
        probe_noise: relative, see :meth:`SpectralProbe.noisy`.

    Raises:
        ValueError: there is no such family.
    """
    unknown = sorted(set(families) - set(FAMILIES))
    if unknown or not families:
        raise ValueError(f"`families` are among {', '.join(FAMILIES)}, got {', '.join(unknown) or 'none'}")
    generator = torch.Generator().manual_seed(seed)
    low, high = (math.log(bound) for bound in condition)
    least, most = (size, size) if isinstance(size, int) else size
    fraction = float(torch.rand((), generator=generator, dtype=torch.float64))
    count = round(least * (most / least) ** fraction)
    chosen = torch.randint(0, len(families), (batch_size,), generator=generator).tolist()
    exponents = torch.rand(batch_size, generator=generator, dtype=torch.float64) * (high - low) + low
    rows = [
        FAMILIES[families[which]](count, kappa, generator)
        for which, kappa in zip(chosen, exponents.exp().tolist(), strict=True)
    ]
    eigenvalues = torch.stack(rows)
    vectors = torch.randn(2, batch_size, count, generator=generator, dtype=torch.float64)
    probe = diagonal_probe(eigenvalues, vectors[0], num_steps=probe_size)
    parts: Iterable[Tensor] = _parts(probe)
    if probe_noise > 0:
        noisy = probe.noisy(probe_noise, generator)
        is_noisy = torch.rand(batch_size, generator=generator) < 0.5
        parts = (
            torch.where(is_noisy.reshape(-1, *[1] * (off.ndim - 1)), off, exact)
            for off, exact in zip(_parts(noisy), parts, strict=True)
        )
    return SpectrumBatch(eigenvalues, vectors[1], *parts)


def _parts(probe: SpectralProbe) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return probe.ritz, probe.weights, probe.residuals, probe.upper
