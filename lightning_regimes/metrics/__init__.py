"""Metrics of ``torchmetrics`` form; each loads when it's first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names

if TYPE_CHECKING:
    from lightning_regimes.metrics.functional import relative_error
    from lightning_regimes.metrics.hill_alpha import HillAlpha
    from lightning_regimes.metrics.radial_energy import RadialSpectrum, radial_spectrum
    from lightning_regimes.metrics.relative_l2 import RelativeL2
    from lightning_regimes.metrics.sobolev import RelativeH1, relative_h1_errors, squared_h1_norm
    from lightning_regimes.metrics.spectral_bands import (
        SpectralBandError,
        band_edges,
        spectral_band_energy,
        spectral_band_errors,
    )
    from lightning_regimes.metrics.spectral_tail import PowerLawTail, eigenvalue_tail, power_law_tail, singular_values
    from lightning_regimes.metrics.vrmse import VRMSE, variance_scaled_errors

_SUBMODULES = {
    "HillAlpha": "hill_alpha",
    "PowerLawTail": "spectral_tail",
    "RadialSpectrum": "radial_energy",
    "RelativeH1": "sobolev",
    "RelativeL2": "relative_l2",
    "SpectralBandError": "spectral_bands",
    "VRMSE": "vrmse",
    "band_edges": "spectral_bands",
    "eigenvalue_tail": "spectral_tail",
    "power_law_tail": "spectral_tail",
    "radial_spectrum": "radial_energy",
    "relative_error": "functional",
    "relative_h1_errors": "sobolev",
    "singular_values": "spectral_tail",
    "spectral_band_energy": "spectral_bands",
    "spectral_band_errors": "spectral_bands",
    "squared_h1_norm": "sobolev",
    "variance_scaled_errors": "vrmse",
}

__all__ = [
    "VRMSE",
    "HillAlpha",
    "PowerLawTail",
    "RadialSpectrum",
    "RelativeH1",
    "RelativeL2",
    "SpectralBandError",
    "band_edges",
    "eigenvalue_tail",
    "power_law_tail",
    "radial_spectrum",
    "relative_error",
    "relative_h1_errors",
    "singular_values",
    "spectral_band_energy",
    "spectral_band_errors",
    "squared_h1_norm",
    "variance_scaled_errors",
]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)
