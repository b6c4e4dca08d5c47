"""Functions of matrices by matrix products alone."""

from lightning_regimes.spectral.odd_expansion import OddExpansion
from lightning_regimes.spectral.power_expansion import max_relative_error, power_expansion

__all__ = ["OddExpansion", "max_relative_error", "power_expansion"]
