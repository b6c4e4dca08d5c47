"""Functions and inverses of matrices and operators by products alone, with coefficients that suit a spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_regimes.lazy_names import lazy_names
from lightning_regimes.spectral.odd_expansion import OddExpansion
from lightning_regimes.spectral.power_expansion import max_relative_error, power_expansion

if TYPE_CHECKING:
    from lightning_regimes.spectral.chebyshev_recurrence import chebyshev, clipped, smoothing, spanning
    from lightning_regimes.spectral.chebyshev_series import ChebyshevSeries
    from lightning_regimes.spectral.conjugate_gradients import CGSolution, cg
    from lightning_regimes.spectral.damped_inverse import DampedInverse
    from lightning_regimes.spectral.density_rule import density
    from lightning_regimes.spectral.engine_file import learned, load_engine, save_engine
    from lightning_regimes.spectral.filter_engine import FilterEngine
    from lightning_regimes.spectral.filtered_subspace import topk
    from lightning_regimes.spectral.guard import guarded
    from lightning_regimes.spectral.harmonic_ritz import minres_polynomial
    from lightning_regimes.spectral.matrix_functions import MatrixFunction
    from lightning_regimes.spectral.operator_forms import as_operator
    from lightning_regimes.spectral.polynomial_preconditioner import PolynomialPreconditioner
    from lightning_regimes.spectral.recurrence_engine import RecurrenceEngine
    from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
    from lightning_regimes.spectral.series_engine import SeriesEngine
    from lightning_regimes.spectral.spectral_probe import SpectralProbe, lanczos_probe
    from lightning_regimes.spectral.step_series import step_filter

_SUBMODULES = {
    "CGSolution": "conjugate_gradients",
    "ChebyshevSeries": "chebyshev_series",
    "DampedInverse": "damped_inverse",
    "FilterEngine": "filter_engine",
    "MatrixFunction": "matrix_functions",
    "PolynomialPreconditioner": "polynomial_preconditioner",
    "RecurrenceEngine": "recurrence_engine",
    "ResidualRecurrence": "residual_recurrence",
    "SeriesEngine": "series_engine",
    "SpectralProbe": "spectral_probe",
    "as_operator": "operator_forms",
    "cg": "conjugate_gradients",
    "chebyshev": "chebyshev_recurrence",
    "clipped": "chebyshev_recurrence",
    "density": "density_rule",
    "guarded": "guard",
    "lanczos_probe": "spectral_probe",
    "learned": "engine_file",
    "load_engine": "engine_file",
    "minres_polynomial": "harmonic_ritz",
    "save_engine": "engine_file",
    "smoothing": "chebyshev_recurrence",
    "spanning": "chebyshev_recurrence",
    "step_filter": "step_series",
    "topk": "filtered_subspace",
}

__all__ = [
    "CGSolution",
    "ChebyshevSeries",
    "DampedInverse",
    "FilterEngine",
    "MatrixFunction",
    "OddExpansion",
    "PolynomialPreconditioner",
    "RecurrenceEngine",
    "ResidualRecurrence",
    "SeriesEngine",
    "SpectralProbe",
    "as_operator",
    "cg",
    "chebyshev",
    "clipped",
    "density",
    "guarded",
    "lanczos_probe",
    "learned",
    "load_engine",
    "max_relative_error",
    "minres_polynomial",
    "power_expansion",
    "save_engine",
    "smoothing",
    "spanning",
    "step_filter",
    "topk",
]

__getattr__, __dir__ = lazy_names(__name__, _SUBMODULES)
