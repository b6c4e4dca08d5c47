"""Random sums of Gaussians on the unit torus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class GaussianSources:
    """``f(x) = Σ_c p_c exp(−|x − c|²/2σ²) − mean`` over centres on a periodic grid, of which a random part takes part.

    The part is uniform in ``density``, and ``p_c`` of the centres in it is uniform in ``[0, 1]``.

    Attributes:
        centers: on a side.
        width: ``σ``.
        density: lowest and highest part of the centres.

    Raises:
        ValueError: a number is out of range.
    """

    centers: int = 16
    width: float = 1 / 32
    density: tuple[float, float] = (0.2, 0.8)

    def __post_init__(self) -> None:
        if self.centers < 1:
            raise ValueError(f"`centers` must be at least 1, got {self.centers}.")
        if not 0 < self.width <= 0.25:
            raise ValueError(f"`width` must lie above 0 and be at most 0.25, got {self.width}.")
        if not 0 < self.density[0] <= self.density[1] <= 1:
            raise ValueError(f"`density` must be a range above 0 and up to 1, got {self.density}.")

    def sample(self, indices: Sequence[int], *, resolution: int, seed: Sequence[int] = (0,)) -> Tensor:
        """Return sources on a grid, ``(len(indices), n, n)`` in float64; the same functions on every grid.

        Args:
            indices: numbers of the sources; each depends on its number and the seed only.
            resolution: ``n``, nodes on a side, at ``i/n``.
            seed: whole numbers.
        """
        if resolution < 2:
            raise ValueError(f"`resolution` must be at least 2, got {resolution}.")
        weights = torch.from_numpy(np.stack([self._weights([*seed, index]) for index in indices]))
        place = np.arange(resolution) / resolution
        distance = place[:, None] - np.arange(self.centers) / self.centers
        # Copies two periods away are below 1e-13 at the largest width.
        copies = distance[..., None] + np.arange(-3, 4)
        bumps = torch.from_numpy(np.exp(-(copies**2) / (2 * self.width**2)).sum(axis=-1))
        mean = weights.sum(dim=(1, 2), keepdim=True) * (2 * math.pi * self.width**2)
        return bumps @ weights @ bumps.T - mean

    def _weights(self, seed: Sequence[int]) -> np.ndarray:
        generator = np.random.default_rng(seed)
        size = (self.centers, self.centers)
        taking_part = generator.random(size) < generator.uniform(*self.density)
        return generator.random(size) * taking_part
