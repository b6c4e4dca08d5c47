"""Densities of the Hessian's eigenvalues as they are recorded, of the whole loss and of its terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.curvature import HessianOperator, LinearOperator, spectral_density
from lightning_regimes.probe import LossProbe
from lightning_regimes.recording import Table
from lightning_regimes.signed_log_density import signed_log, signed_log_density

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The picture for the loggers shows as many columns at most; the records on disk are complete.
_MAX_COLUMNS = 64


def measure_density(operator: LinearOperator, *, num_vectors: int, num_steps: int) -> Measurement:
    """Return the density of an operator's eigenvalues with the quadrature that it was made from."""
    estimate = spectral_density(operator, num_vectors=num_vectors, num_steps=num_steps)
    shown = signed_log_density(estimate.nodes.numpy(), estimate.weights.numpy())
    return Measurement(
        arrays={
            "hessian/density_nodes": estimate.nodes.numpy(),
            "hessian/density_weights": estimate.weights.numpy(),
            "hessian/density_grid": shown.grid,
            "hessian/density": shown.density,
            "hessian/density_standard_error": shown.standard_error,
        },
        context={
            "density_threshold": shown.threshold,
            "density_width": shown.width,
            "density_num_matvecs": estimate.num_matvecs,
        },
    )


def measure_component_densities(
    probe_of: Callable[[str], LossProbe], names: list[str], *, num_vectors: int, num_steps: int
) -> tuple[Measurement, int]:
    """Return the densities of the terms of a loss on one grid, and the products that they took.

    Args:
        probe_of: returns the probe of a term.
        names: of the terms.
        num_vectors: starts a term.
        num_steps: products a start.
    """
    scalars: dict[str, float] = {}
    rows, estimates, losses = [], [], []
    for name in names:
        probe = probe_of(name)
        with probe.isolated(), HessianOperator(probe) as operator:
            estimate = spectral_density(operator, num_vectors=num_vectors, num_steps=num_steps)
            losses.append(probe.loss().item())
        size, mean = probe.num_parameters, estimate.moment(1)
        scalars |= {
            f"hessian/lambda_1_of_{name}": float(estimate.nodes.max()),
            f"hessian/trace_of_{name}": size * mean.value,
            f"hessian/trace_standard_error_of_{name}": size * mean.standard_error,
        }
        extremes = float(estimate.nodes.max()), float(estimate.nodes.min())
        rows.append((name, losses[-1], *extremes, size * mean.value, size * mean.standard_error))
        estimates.append(estimate)
    # One ruler for all terms, that of the stiffest, so that their densities lie on one grid.
    longest = max(estimate.nodes.shape[1] for estimate in estimates)
    nodes = np.stack([_padded(estimate.nodes, longest, mode="edge") for estimate in estimates])
    weights = np.stack([_padded(estimate.weights, longest, mode="constant") for estimate in estimates])
    whole = signed_log_density(nodes.reshape(-1, longest), weights.reshape(-1, longest))
    shown = [
        signed_log_density(*pair, threshold=whole.threshold, width=whole.width, positions=whole.positions)
        for pair in zip(nodes, weights, strict=True)
    ]
    columns = ("term", "loss", "largest eigenvalue", "smallest eigenvalue", "trace", "standard error of the trace")
    measurement = Measurement(
        scalars=scalars,
        arrays={
            "hessian/component_density_nodes": nodes,
            "hessian/component_density_weights": weights,
            "hessian/component_density_grid": whole.grid,
            "hessian/component_density": np.stack([density.density for density in shown]),
            "hessian/component_density_standard_error": np.stack([density.standard_error for density in shown]),
        },
        context={"components": names},
        tables={"hessian/components": Table(columns, rows)},
    )
    return measurement, sum(estimate.num_matvecs for estimate in estimates)


class DensityHistory:
    """The quadratures of a training's densities, thinned out as it goes on."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, Tensor, Tensor]] = []

    def append(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Take the density of a step."""
        nodes, weights = (torch.from_numpy(arrays[f"hessian/density_{part}"]).float() for part in ("nodes", "weights"))
        self.entries.append((step, nodes, weights))
        if len(self.entries) > _MAX_COLUMNS:
            del self.entries[1:-1:2]


def draw_density_map(entries: list[tuple[int, Tensor, Tensor]]) -> Figure:
    """Draw the density of eigenvalues over steps, in colours on a logarithmic scale."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    steps = [step for step, _, _ in entries]
    columns = [(nodes.numpy(), weights.numpy()) for _, nodes, weights in entries]
    threshold = 1e-3 * max(float(np.abs(nodes).max()) for nodes, _ in columns) or 1.0
    places = np.concatenate([signed_log(nodes, threshold).ravel() for nodes, _ in columns])
    width = max(float(np.ptp(places)) / columns[-1][0].shape[1], 1e-3)
    positions = np.linspace(places.min() - 4 * width, places.max() + 4 * width, 256)
    densities = np.stack(
        [signed_log_density(*pair, threshold=threshold, width=width, positions=positions).density for pair in columns],
        axis=1,
    )
    top = float(densities.max())
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        steps, positions, densities.clip(min=1e-5 * top), norm=LogNorm(1e-5 * top, top), shading="nearest"
    )
    decade = int(np.ceil(np.log10(threshold)))
    values = [0.0, *(sign * 10.0**power for sign in (-1, 1) for power in range(decade, decade + 4))]
    ticks = [(float(signed_log(value, threshold)), f"{value:g}") for value in values]
    ticks = [(place, label) for place, label in ticks if positions[0] <= place <= positions[-1]]
    axes.set_yticks([place for place, _ in ticks], [label for _, label in ticks])
    axes.set(xlabel="optimizer step", ylabel="eigenvalue", title="density of the Hessian's eigenvalues")
    figure.colorbar(mesh, ax=axes, label="density per decade")
    return figure


def _padded(values: Tensor, length: int, *, mode: str) -> np.ndarray:
    widths = ((0, 0), (0, length - values.shape[1]))
    return np.pad(values.numpy(), widths, mode="edge" if mode == "edge" else "constant")
