"""What a module's own theory says about its Hessian, as it is recorded beside the measured spectrum."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_regimes.callbacks.measurement import Measurement


def measure_against_theory(pl_module: Any, values: np.ndarray) -> Measurement:
    """Return what the module expects of its largest eigenvalues, and how far they have parted; empty without theory.

    Args:
        pl_module: it may offer ``theoretical_eigenvalues()``, all or the largest eigenvalues of the Hessian at its
            present weights, descending, and ``expected_multiplicities()``, the numbers of dominant and bulk ones; both
            may return None.
        values: the measured eigenvalues, descending.
    """
    expected = _offered(pl_module, "theoretical_eigenvalues")
    counts = _offered(pl_module, "expected_multiplicities")
    theory = None if expected is None else expected.double().cpu().numpy()
    arrays = {} if theory is None else {"hessian/theory_eigenvalues": theory[: len(values)]}
    scalars: dict[str, float] = {}
    if counts is not None and sum(counts) <= len(values):
        dominant, bulk = _means(values, counts)
        scalars = {
            "hessian/dominant_mean": dominant,
            "hessian/bulk_mean": bulk,
            "hessian/bifurcation_ratio": dominant / bulk,
        }
        if theory is not None:
            scalars["hessian/theory_bifurcation_ratio"] = float(np.divide(*_means(theory, counts)))
    return Measurement(scalars=scalars, arrays=arrays)


def _offered(pl_module: Any, name: str) -> Any:
    method = getattr(pl_module, name, None)
    return method() if callable(method) else None


def _means(values: np.ndarray, counts: tuple[int, int]) -> tuple[float, float]:
    dominant, bulk = counts
    return float(values[:dominant].mean()), float(values[dominant : dominant + bulk].mean())
