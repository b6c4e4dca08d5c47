"""The error of a refined field as a function of the number of steps."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lightning_regimes.metrics.radial_energy import radial_spectrum
from lightning_regimes.metrics.spectral_bands import spectral_band_errors
from lightning_regimes.metrics.vrmse import variance_scaled_errors
from lightning_regimes.modules.contraction import contraction_norm, contraction_rate, error_floor
from lightning_regimes.modules.refinement import refinements

BANDS = ("low", "mid", "high")


@dataclass(frozen=True)
class RefinementCurve:
    """What the steps of a refinement do to some samples, in units of the scaled fields.

    Attributes:
        num_steps: K, for which the refinement is meant; the curve goes on to 3K.
        vrmse: mean error after 0, 1, … steps, (3K + 1,).
        bands: mean squared error in bands of the wavenumber from long waves to short ones, (3K + 1, 3).
        wavenumbers: of the spectra, (shells,).
        spectra: mean square of the fields by wavenumber after each step, (3K + 1, shells).
        reference_spectrum: that of the truth, (shells,).
        error_spectra: mean square of the errors by wavenumber, (3K + 1, shells).
        updates: root of the mean square of each step, (3K,).
        contraction_rate: mean over samples of the spectral radius of the Jacobian after K steps.
        contraction_norm: largest norm among samples of the Jacobian at the truth.
        error_floor: mean bound on the error of the fixed point by that norm; infinite where there is none.
        num_nonfinite: samples that some step made not finite.
    """

    num_steps: int
    vrmse: Tensor
    bands: Tensor
    wavenumbers: Tensor
    spectra: Tensor
    reference_spectrum: Tensor
    error_spectra: Tensor
    updates: Tensor
    contraction_rate: float
    contraction_norm: float
    error_floor: float
    num_nonfinite: int


def refinement_curve(
    refinement: nn.Module,
    inputs: Tensor,
    start: Tensor,
    reference: Tensor,
    *,
    step_size: float,
    num_steps: int,
    num_iterations: int = 12,
) -> RefinementCurve:
    """Refine some samples for three times as many steps as meant, and measure all that can be measured.

    Args:
        refinement: Φ.
        inputs: x, (B, C, n₁, …), scaled.
        start: the base's prediction, (B, C′, n₁, …), scaled.
        reference: the truth, scaled.
        step_size: α.
        num_steps: K.
        num_iterations: products with the Jacobian for each estimate.
    """
    space = reference.ndim - 2
    with torch.no_grad():
        states = [start, *refinements(refinement, inputs, start, step_size=step_size, num_steps=3 * num_steps)]
        bias = refinement(torch.cat([inputs, reference], dim=1))
    spectra = [radial_spectrum(state, spatial_dims=space) for state in states]
    errors = [radial_spectrum(state - reference, spatial_dims=space).energy for state in states]
    updates = [(later - sooner).square().mean().sqrt() for sooner, later in itertools.pairwise(states)]

    def step(state: Tensor) -> Tensor:
        return state + step_size * refinement(torch.cat([inputs, state], dim=1))

    rate = contraction_rate(step, states[num_steps], num_iterations=num_iterations)
    norm = contraction_norm(step, reference, num_iterations=num_iterations)
    floor = error_floor(bias, norm, step_size=step_size)
    finite = torch.stack([state.isfinite().flatten(1).all(dim=1) for state in states]).all(dim=0)
    return RefinementCurve(
        num_steps=num_steps,
        vrmse=torch.stack([variance_scaled_errors(state, reference, spatial_dims=space).mean() for state in states]),
        bands=torch.stack([_band_means(state, reference) for state in states]),
        wavenumbers=spectra[0].wavenumbers,
        spectra=torch.stack([spectrum.energy.flatten(0, 1).mean(dim=0) for spectrum in spectra]),
        reference_spectrum=radial_spectrum(reference, spatial_dims=space).energy.flatten(0, 1).mean(dim=0),
        error_spectra=torch.stack([error.flatten(0, 1).mean(dim=0) for error in errors]),
        updates=torch.stack(updates),
        contraction_rate=float(rate.mean()),
        contraction_norm=float(norm.max()),
        error_floor=float(floor.mean()),
        num_nonfinite=int((~finite).sum()),
    )


class RefinementSums:
    """Sums over samples of the errors of all steps, from which means come in the end."""

    def __init__(self) -> None:
        self._errors: list[Tensor] = []
        self._counts: list[Tensor] = []
        self._adaptive: list[Tensor] = []

    def add(self, states: Sequence[Tensor], reference: Tensor) -> None:
        """Add the iterates of a batch, the base's prediction first, and the truth, all (B, C′, n₁, …)."""
        rows = []
        for state in states:
            vrmse = variance_scaled_errors(state, reference, spatial_dims=reference.ndim - 2)
            rows.append(torch.cat([vrmse.mean().reshape(1), _band_means(state, reference)]))
        finite = torch.stack([state.isfinite().flatten(1).all(dim=1) for state in states]).all(dim=0)
        self._errors.append(len(reference) * torch.stack(rows))
        self._counts.append(torch.stack([(~finite).sum(), finite.numel() * torch.ones_like(finite.sum())]).double())

    def add_adaptive(self, errors: Tensor, num_steps: Tensor) -> None:
        """Add the VRMSE of samples that stopped on their own, (B,), and the steps that they took."""
        self._adaptive.append(torch.stack([errors.sum(), num_steps.double().sum()]))

    def reduced(self, strategy: Any) -> RefinementMeans:
        """Return the means over all samples of all processes of a trainer's strategy."""
        errors, counts = torch.stack(self._errors).sum(dim=0), torch.stack(self._counts).sum(dim=0)
        adaptive = torch.stack(self._adaptive).sum(dim=0) if self._adaptive else None
        errors, counts = strategy.reduce(errors, reduce_op="sum"), strategy.reduce(counts, reduce_op="sum")
        if adaptive is not None:
            adaptive = strategy.reduce(adaptive, reduce_op="sum") / counts[1]
        return RefinementMeans(errors / counts[1], float(counts[0] / counts[1]), adaptive)


@dataclass(frozen=True)
class RefinementMeans:
    """Means over samples.

    Attributes:
        errors: of each step the VRMSE and the mean squared error in each band, (3K + 1, 1 + 3).
        nonfinite: the part of samples that some step made not finite.
        adaptive: VRMSE and number of steps where samples stop on their own, (2,).
    """

    errors: Tensor
    nonfinite: float
    adaptive: Tensor | None

    def values(self, num_steps: int) -> dict[str, float]:
        """Return the numbers to log, by name, for K steps."""
        vrmse, bands = self.errors[:, 0], self.errors[:, 1:]
        finite = torch.where(vrmse.isfinite(), vrmse, torch.inf)
        best = int(finite.argmin())
        values = {
            "vrmse": float(vrmse[num_steps]),
            "vrmse_base": float(vrmse[0]),
            "vrmse_best": float(vrmse[best]),
            "best_step": float(best),
            "vrmse_2k": float(vrmse[2 * num_steps]),
            "vrmse_3k": float(vrmse[3 * num_steps]),
            "nonfinite_samples": self.nonfinite,
        }
        values |= {f"step_vrmse/{step}": float(value) for step, value in enumerate(vrmse)}
        for name, column in zip(BANDS, (bands / bands[0]).T, strict=True):
            values |= {f"step_{name}/{step}": float(value) for step, value in enumerate(column)}
        if self.adaptive is not None:
            values |= {"vrmse_adaptive": float(self.adaptive[0]), "adaptive_steps": float(self.adaptive[1])}
        return values


def _band_means(state: Tensor, reference: Tensor) -> Tensor:
    return spectral_band_errors(state, reference, spatial_dims=reference.ndim - 2).flatten(0, 1).mean(dim=0)
