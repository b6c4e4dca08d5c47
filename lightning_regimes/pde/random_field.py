"""Gaussian random fields on an interval or a square, the same at every resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Boundary = Literal["neumann", "periodic"]


@dataclass(frozen=True)
class GaussianRandomField:
    """Fields drawn from ``N(0, c (−Δ + τ²)^−γ)`` with mean zero, on the square (or the interval) of side ``L``.

    A field is ``Σ_k sqrt(c) (λ_k + τ²)^(−γ/2) ξ_k φ_k`` with independent normal ``ξ_k``, where ``φ_k`` are products of
    cosines (Neumann, ``λ_k = π²|k|²/L²``) or of cosines and sines (periodic, ``λ_k = 4π²|k|²/L²``), each of mean square
    one, the constant left out. Each field draws its ``ξ_k`` from the lowest wave number up, so that the same seed
    gives the same field on every grid, up to the modes that a grid has more than another.

    Attributes:
        exponent: ``γ``; above half the dimension, so that the variance is finite.
        inverse_length: ``τ``, one over the correlation length.
        scale: ``c``.
        boundary: "neumann" or "periodic".
        length: ``L``.
        dimension: 1 or 2.

    Raises:
        ValueError: a number is out of range.

    References:
        Z. Li et al., "Fourier neural operator for parametric partial differential equations", ICLR 2021,
        arXiv:2010.08895, appendix A.3.
    """

    exponent: float = 2.0
    inverse_length: float = 3.0
    scale: float = 1.0
    boundary: Boundary = "neumann"
    length: float = 1.0
    dimension: int = 2

    def __post_init__(self) -> None:
        if self.dimension not in (1, 2):
            raise ValueError(f"`dimension` must be 1 or 2, got {self.dimension}.")
        lowest = self.dimension / 2
        if self.exponent <= lowest:
            raise ValueError(
                f"`exponent` must be above {lowest:g}, got {self.exponent}: the variance would be infinite."
            )
        if self.inverse_length < 0:
            raise ValueError(f"`inverse_length` must not be negative, got {self.inverse_length}.")
        for name, value in (("scale", self.scale), ("length", self.length)):
            if value <= 0:
                raise ValueError(f"`{name}` must be positive, got {value}.")
        if self.boundary not in get_args(Boundary):
            raise ValueError(f'`boundary` must be "neumann" or "periodic", got {self.boundary!r}.')

    def sample(
        self, indices: Sequence[int], *, resolution: int, seed: Sequence[int] = (0,), num_modes: int | None = None
    ) -> Tensor:
        """Return fields on a grid, ``(len(indices), n, n)`` (or ``(len(indices), n)``) in float64.

        Args:
            indices: numbers of the fields; a field depends on its number and the seed only.
            resolution: ``n``, nodes on a side: ``i L/(n − 1)`` with both ends for Neumann, ``i L/n`` for periodic.
            seed: whole numbers.
            num_modes: one-dimensional modes; by default those that the grid tells apart. A fixed number gives the same
                field at every resolution exactly.
        """
        if resolution < 2:
            raise ValueError(f"`resolution` must be at least 2, got {resolution}.")
        periodic = self.boundary == "periodic"
        if num_modes is None:
            # The highest mode of an even periodic grid has no sine there.
            num_modes = 2 * ((resolution - 1) // 2) + 1 if periodic else resolution
        modes = np.arange(num_modes)
        if periodic:
            wave_numbers = (modes + 1) // 2 * (2 * math.pi / self.length)
            places = np.arange(resolution) * (self.length / resolution)
            basis = np.cos(np.outer(places, wave_numbers) - (modes % 2 == 0) * (math.pi / 2) * (modes > 0))
        else:
            wave_numbers = modes * (math.pi / self.length)
            basis = np.cos(np.outer(np.linspace(0.0, self.length, resolution), wave_numbers))
        basis = torch.from_numpy(basis * np.where(modes == 0, 1.0, math.sqrt(2)))
        squared = wave_numbers**2 if self.dimension == 1 else wave_numbers[:, None] ** 2 + wave_numbers**2
        eigenvalues = squared + self.inverse_length**2
        eigenvalues.flat[0] = np.inf
        amplitudes = math.sqrt(self.scale) * eigenvalues ** (-self.exponent / 2)
        order = modes if self.dimension == 1 else _from_low_to_high(num_modes)
        coefficients = np.stack(
            [np.random.default_rng([*seed, index]).standard_normal(amplitudes.size)[order] for index in indices]
        )
        weighted = torch.from_numpy(coefficients * amplitudes) @ basis.T
        return weighted if self.dimension == 1 else basis @ weighted


def _from_low_to_high(num_modes: int) -> NDArray[np.int64]:
    """Return for each pair of modes its place in an order by the larger of the two, ``(num_modes, num_modes)``."""
    row, column = np.indices((num_modes, num_modes))
    larger = np.maximum(row, column)
    return np.where(row == larger, larger**2 + column, larger**2 + larger + 1 + row)
