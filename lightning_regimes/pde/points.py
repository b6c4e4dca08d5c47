"""Points in a box: grids, uniform draws and Sobol sequences, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

Domain: TypeAlias = tuple[tuple[float, float], ...]
"""Lower and upper end of each coordinate."""

PointSampler: TypeAlias = Callable[[Domain, int], Tensor]
"""A way to draw ``(num_points, d)`` points in a box; see :func:`uniform_sampler` and :func:`sobol_sampler`."""


def grid_points(domain: Domain, sizes: Sequence[int]) -> Tensor:
    """Return the points of a regular grid that includes both ends of each coordinate.

    Args:
        domain: ``d`` pairs of ends.
        sizes: number of grid values of each coordinate.

    Returns:
        ``(∏ sizes, d)`` in float64, the last coordinate varying fastest.

    Raises:
        ValueError: the number of sizes differs from the number of coordinates, or a size is below 2.
    """
    if len(sizes) != len(domain):
        raise ValueError(f"`sizes` must have one entry for each of {len(domain)} coordinates, got {list(sizes)}.")
    if any(size < 2 for size in sizes):
        raise ValueError(f"`sizes` must be at least 2 to hold both ends of a coordinate, got {list(sizes)}.")
    axes = [
        torch.linspace(low, high, size, dtype=torch.float64) for (low, high), size in zip(domain, sizes, strict=True)
    ]
    return torch.cartesian_prod(*axes).reshape(-1, len(axes))


def uniform_sampler(generator: torch.Generator) -> PointSampler:
    """Return a sampler of independent uniform points that draws from this generator and from no other."""

    def draw(domain: Domain, num_points: int) -> Tensor:
        unit = torch.rand(num_points, len(domain), generator=generator, dtype=torch.float64)
        return _stretch(unit, domain)

    return draw


def sobol_sampler(seed: int) -> PointSampler:
    """Return a sampler of scrambled Sobol points: the same box, number and seed give the same points."""

    def draw(domain: Domain, num_points: int) -> Tensor:
        engine = SobolEngine(len(domain), scramble=True, seed=seed)
        return _stretch(engine.draw(num_points, dtype=torch.float64), domain)

    return draw


def _stretch(unit: Tensor, domain: Domain) -> Tensor:
    ends = torch.tensor(domain, dtype=torch.float64)
    return ends[:, 0] + (ends[:, 1] - ends[:, 0]) * unit
