"""Charts that W&B draws from its own presets: spectra as lines, the density of eigenvalues over training."""

from typing import Any

import numpy as np

from lightning_regimes.recording.record import Record

_MOST_LINES = 12
_BINS = 64


class SpectrumChart:
    """The largest eigenvalues over their number, a line for each of at most a dozen steps."""

    def __init__(self) -> None:
        self._spectra: list[tuple[int, np.ndarray]] = []

    def draw(self, record: Record) -> dict[str, Any]:
        """Return the chart by its key if the record holds a spectrum.

        When there are more steps than lines, every second one between the first and the last is let go.
        """
        values = record.arrays["hessian/eigenvalues"] if "hessian/eigenvalues" in record.arrays else np.empty(0)
        if not np.isfinite(values).any():
            return {}
        import wandb

        self._spectra.append((record.step, values))
        if len(self._spectra) > _MOST_LINES:
            del self._spectra[1:-1:2]
        shown = [(step, np.flatnonzero(np.isfinite(values)), values) for step, values in self._spectra]
        chart = wandb.plot.line_series(
            xs=[(indices + 1).tolist() for _, indices, _ in shown],
            ys=[values[indices].tolist() for _, indices, values in shown],
            keys=[f"step {step}" for step, _, _ in shown],
            title="Largest eigenvalues of the Hessian",
            xname="number of the eigenvalue",
        )
        return {"hessian/spectra": chart}


def density_histogram(record: Record) -> dict[str, Any]:
    """Return the density of eigenvalues as a histogram, which W&B draws as a heat map over training.

    Each bin holds the share of all eigenvalues that the quadrature of the record finds in it.
    """
    if "hessian/density_nodes" not in record.arrays:
        return {}
    nodes, weights = record.arrays["hessian/density_nodes"], record.arrays["hessian/density_weights"]
    if not np.isfinite(nodes).all():
        return {}
    import wandb

    shares, edges = np.histogram(nodes, bins=_BINS, weights=weights / len(weights))
    return {"hessian/density": wandb.Histogram(np_histogram=(shares, edges))}
