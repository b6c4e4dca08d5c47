"""The error of fields in bands of the wavenumber, as functions and as a torchmetrics metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_regimes.metrics.radial_energy import half_plane_power, radius
from lightning_regimes.metrics.vrmse import check_fields


def band_edges(shape: Sequence[int], *, num_bands: int = 3) -> Tensor:
    r"""Return the edges of logarithmic bands of the wavenumber, in radians a sample, (num_bands + 1,).

    They run from :math:`2 \pi / \max_i n_i`, the longest wave, to :math:`\pi \sqrt d`, the corner of the spectrum; the
    first is then put to 0, for the mean.

    Args:
        shape: points along each of the d axes.
        num_bands: 3 for low, medium and high.

    Raises:
        ValueError: no axis, no band, or fewer than two points.

    References:
        Ohana et al., The Well: a Large-Scale Collection of Diverse Physics Simulations for Machine Learning,
        arXiv:2412.00568, appendix on metrics.
    """
    if num_bands < 1 or not shape or max(shape) < 2:
        raise ValueError(f"bands need an axis of two points or more and a band, got {tuple(shape)} and {num_bands}")
    lowest, highest = math.log10(2 * math.pi / max(shape)), math.log10(math.pi * math.sqrt(len(shape)) + 1e-6)
    edges = torch.logspace(lowest, highest, num_bands + 1, dtype=torch.float64)
    edges[0] = 0.0
    return edges


def spectral_band_energy(field: Tensor, *, edges: Tensor | None = None, spatial_dims: int = 2) -> Tensor:
    r"""Return the mean square of each field in bands of the wavenumber, (..., bands), float64.

    .. math:: \frac{1}{N^2} \sum_{e_b \le |\omega| < e_{b + 1}} |\hat u_\omega|^2

    Over bands that reach from 0 to the corner, as the default ones do, the sum is the mean square of the field.

    Args:
        field: real, (..., n₁, …, n_d).
        edges: ascending, in radians a sample; by default :func:`band_edges` of the shape.
        spatial_dims: number d of trailing dimensions that are space.

    Raises:
        ValueError: the edges don't ascend, or the field is complex.
    """
    power, frequencies = half_plane_power(field, spatial_dims=spatial_dims)
    if edges is None:
        edges = band_edges(field.shape[-spatial_dims:])
    edges = edges.to(dtype=torch.float64, device=field.device)
    if edges.ndim != 1 or len(edges) < 2 or not bool((edges.diff() > 0).all()):
        raise ValueError(f"`edges` are two ascending numbers or more, got {edges.tolist()}")
    frequency = (2 * math.pi * radius(frequencies)).flatten()
    band = torch.bucketize(frequency, edges, right=True) - 1
    inside = (band >= 0) & (band < len(edges) - 1)
    energy = power.new_zeros((*power.shape[:-spatial_dims], len(edges) - 1))
    energy.index_add_(-1, band[inside], power.flatten(-spatial_dims)[..., inside])
    return energy


def spectral_band_errors(
    predicted: Tensor, reference: Tensor, *, edges: Tensor | None = None, spatial_dims: int = 2
) -> Tensor:
    """Return the mean squared error of each field in bands of the wavenumber, (..., bands), float64.

    It is what the mean squared error would be after a filter that passes the band alone. The bands add up to the mean
    squared error.

    Args:
        predicted: real, (..., n₁, …, n_d).
        reference: the same shape.
        edges: as for :func:`spectral_band_energy`.
        spatial_dims: number d of trailing dimensions that are space.

    Raises:
        ValueError: the shapes differ, or the edges don't ascend.
    """
    check_fields(predicted, reference, spatial_dims=spatial_dims)
    return spectral_band_energy(predicted.double() - reference.double(), edges=edges, spatial_dims=spatial_dims)


class SpectralBandError(Metric):
    """The mean of :func:`spectral_band_errors` over all samples and fields that were seen, (bands,), in float64.

    Args:
        num_bands: logarithmic bands, by :func:`band_edges` of each batch's own shape.
        edges: of the bands instead, in radians a sample.
        relative: divide by the mean square of the references in each band.
        spatial_dims: number of trailing dimensions that are space.
        **kwargs: for :class:`torchmetrics.Metric`.

    Raises:
        ValueError: ``update`` gets shapes that differ, or ``compute`` comes before any.

    Example:
        >>> error = SpectralBandError(spatial_dims=1)
        >>> error(torch.tensor([1.0, 1.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 0.0, 0.0]))
        tensor([1., 0., 0.], dtype=torch.float64)
    """

    is_differentiable = True
    higher_is_better = False
    full_state_update = False

    error: Tensor
    energy: Tensor
    num_samples: Tensor

    def __init__(
        self,
        *,
        num_bands: int = 3,
        edges: Sequence[float] | None = None,
        relative: bool = False,
        spatial_dims: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_bands < 1:
            raise ValueError(f"`num_bands` is at least 1, got {num_bands}")
        self.edges = None if edges is None else torch.tensor(edges, dtype=torch.float64)
        self.num_bands = num_bands if self.edges is None else len(self.edges) - 1
        self.relative, self.spatial_dims = relative, spatial_dims
        zeros = torch.zeros(self.num_bands, dtype=torch.float64)
        self.add_state("error", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("energy", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, reference: Tensor) -> None:
        """Add a batch of predictions and references, both (..., n₁, …, n_d).

        Raises:
            ValueError: the shapes differ.
        """
        check_fields(predicted, reference, spatial_dims=self.spatial_dims)
        edges = self.edges
        if edges is None:
            edges = band_edges(reference.shape[-self.spatial_dims :], num_bands=self.num_bands)
        errors = spectral_band_errors(predicted, reference, edges=edges, spatial_dims=self.spatial_dims)
        energy = spectral_band_energy(reference, edges=edges, spatial_dims=self.spatial_dims)
        self.error = self.error + errors.reshape(-1, self.num_bands).sum(dim=0)
        self.energy = self.energy + energy.reshape(-1, self.num_bands).sum(dim=0)
        self.num_samples = self.num_samples + errors.numel() // self.num_bands

    def compute(self) -> Tensor:
        """Return the error in each band, from the longest waves to the shortest."""
        if not bool(self.num_samples > 0):
            raise ValueError("the mean error needs a sample: call `update` first.")
        return self.error / (self.energy if self.relative else self.num_samples)
