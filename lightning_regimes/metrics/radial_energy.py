"""How the mean square of a field is spread over wavenumbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RadialSpectrum:
    """Mean square of fields in shells of the wavenumber.

    Attributes:
        wavenumbers: k of each shell, 0, 1, 2, …, in waves over the longest side of the domain.
        energy: mean square that the modes with ``k − ½ ≤ |k| < k + ½`` add, (..., shells), float64. The sum over all
            shells is the mean square of the field.
    """

    wavenumbers: Tensor
    energy: Tensor


def radial_spectrum(field: Tensor, *, spatial_dims: int = 2, lengths: Sequence[float] | None = None) -> RadialSpectrum:
    r"""Return the mean square of a field by shells of :math:`|k|`.

    .. math:: E(k) = \frac{1}{N^2} \sum_{k - 1/2 \le |\kappa| < k + 1/2} |\hat u_\kappa|^2, \qquad
        \sum_k E(k) = \langle u^2 \rangle

    Args:
        field: real, (..., n₁, …, n_d); N is the number of its points.
        spatial_dims: number d of trailing dimensions that are space.
        lengths: of the sides of the domain; by default all are equal, whatever the number of points.

    Raises:
        ValueError: the lengths don't fit.
    """
    shape = field.shape[-spatial_dims:]
    sides = [1.0] * spatial_dims if lengths is None else list(lengths)
    if len(sides) != spatial_dims or not all(side > 0 for side in sides):
        raise ValueError(f"`lengths` are {spatial_dims} positive numbers, got {sides}")
    power, frequencies = half_plane_power(field, spatial_dims=spatial_dims)
    longest = max(sides)
    waves = [axis * size * longest / side for axis, size, side in zip(frequencies, shape, sides, strict=True)]
    shells = radius(waves).add(0.5).floor().long().flatten()
    count = int(shells.max()) + 1
    energy = power.new_zeros((*power.shape[:-spatial_dims], count))
    energy.index_add_(-1, shells, power.flatten(-spatial_dims))
    return RadialSpectrum(torch.arange(count, device=field.device), energy)


def half_plane_power(field: Tensor, *, spatial_dims: int) -> tuple[Tensor, list[Tensor]]:
    """Return the share of each mode of a real field in its mean square, and the frequencies along each axis.

    Only half of the last axis is kept; modes whose mirror image is left out count twice, so that the sum over all is
    the mean square (Parseval).

    Returns:
        (..., n₁, …, ⌊n_d / 2⌋ + 1) in float64, and one tensor an axis of frequencies in waves a sample.

    Raises:
        ValueError: the field is complex, or has fewer dimensions.
    """
    if field.is_complex() or not 1 <= spatial_dims <= field.ndim:
        raise ValueError(f"a field is real with {spatial_dims} dimensions of space, got {field.dtype} {field.ndim}-d")
    shape = field.shape[-spatial_dims:]
    amplitude = torch.fft.rfftn(field.double(), dim=tuple(range(-spatial_dims, 0)))
    power = amplitude.abs().square() / math.prod(shape) ** 2
    last = torch.fft.rfftfreq(shape[-1], dtype=torch.float64, device=field.device)
    # The mean has no mirror image, nor has the highest frequency of an even number of points.
    alone = (last == 0) | (last == 0.5)
    power = power * torch.where(alone, 1.0, 2.0)
    others = [torch.fft.fftfreq(size, dtype=torch.float64, device=field.device) for size in shape[:-1]]
    return power, [*others, last]


def radius(axes: Sequence[Tensor]) -> Tensor:
    """Return the distance from zero of each point of the grid that the axes span."""
    squares = torch.zeros((), dtype=axes[0].dtype, device=axes[0].device)
    for index, axis in enumerate(axes):
        squares = squares + axis.square().reshape([-1 if index == other else 1 for other in range(len(axes))])
    return squares.sqrt()
