"""Spectra of positive definite operators as they occur, for training and for tests."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

SpectrumFamily = Callable[[int, float, torch.Generator], Tensor]
"""Makes n eigenvalues, ascending up to 1, in float64, from n, the condition number and a generator."""


def log_uniform(size: int, condition: float, generator: torch.Generator) -> Tensor:
    """Return eigenvalues whose logarithms are uniform."""
    return _finished(condition ** -_uniform(size, generator), condition)


def power_decay(size: int, condition: float, generator: torch.Generator) -> Tensor:
    r"""Return :math:`(i / n)^s`, with the power that the condition number asks for."""
    index = torch.arange(1, size + 1, dtype=torch.float64) / size
    return _finished(index ** (math.log(condition) / math.log(size)), condition)


def laplacian(size: int, condition: float, generator: torch.Generator) -> Tensor:
    r"""Return eigenvalues of anisotropic Laplacians in one to three dimensions.

    .. math:: \lambda = \sum_k c_k \, (2 - 2 \cos \pi i_k / (m + 1))

    On a grid with m points a side, as many as the condition number asks for, of which n at random are taken beside the
    smallest and the largest one. The factors are between 1 and 1/1000.
    """
    dimensions = int(torch.randint(1, 4, (), generator=generator))
    points = max(3, round(math.pi / 2 * math.sqrt(condition)) - 1)
    indices = 1 + (_uniform(size * dimensions, generator) * points).floor().reshape(dimensions, size)
    indices[:, 0], indices[:, -1] = 1, points
    factors = 1000 ** -_uniform(dimensions, generator) * (torch.rand((), generator=generator) < 0.5)
    factors = torch.where(factors > 0, factors, 1.0)
    return _finished((factors[:, None] * (2 - 2 * (math.pi * indices / (points + 1)).cos())).sum(0), 1e12)


def top_outliers(size: int, condition: float, generator: torch.Generator) -> Tensor:
    """Return a bulk, and up to eight values above it by up to two orders."""
    count = _count(8, size, generator)
    height = 100 ** -_uniform(1, generator)
    spread = min(condition, 1e3)
    bulk = height * spread ** -_uniform(size - count, generator)
    return _finished(torch.cat([bulk, height ** _uniform(count, generator)]), condition)


def clusters(size: int, condition: float, generator: torch.Generator) -> Tensor:
    """Return two to eight clusters of relative widths from 1e-4 to 0.1 with log-uniform centres."""
    count = 1 + _count(7, size, generator)
    centres = condition ** -_uniform(count, generator)
    widths = 10 ** (-1 - 3 * _uniform(count, generator))
    member = torch.randint(0, count, (size,), generator=generator)
    return _finished(centres[member] * (1 + widths[member] * (2 * _uniform(size, generator) - 1)), condition)


def random_matrix(size: int, condition: float, generator: torch.Generator) -> Tensor:
    """Return the Marchenko–Pastur bulk of a sample covariance, up to a fifth of it replaced by a log-uniform tail."""
    ratio = 0.1 + 0.8 * float(_uniform(1, generator))
    count = _count(max(1, size // 5), size, generator)
    edge = torch.linspace(-1, 1, 2002, dtype=torch.float64)[1:-1]
    points = 1 + ratio + 2 * math.sqrt(ratio) * edge
    mass = ((1 - edge.square()).sqrt() / points).cumsum(0)
    places = torch.searchsorted(mass / mass[-1], _uniform(size - count, generator)).clamp(max=len(points) - 1)
    bulk = points[places] / points[-1]
    low = float(bulk.min())
    return _finished(torch.cat([bulk, low * (condition * low) ** -_uniform(count, generator)]), condition)


def low_outliers(size: int, condition: float, generator: torch.Generator) -> Tensor:
    """Return a bulk within one or two orders, and up to ten isolated values below it."""
    count = _count(10, size, generator)
    spread = 10 ** (1 + float(_uniform(1, generator)))
    bulk = (
        spread ** -_uniform(size - count, generator)
        if float(_uniform(1, generator)) < 0.5
        else _uniform(size - count, generator) * (1 - 1 / spread) + 1 / spread
    )
    return _finished(torch.cat([bulk, max(condition, spread) ** -_uniform(count, generator)]), condition)


FAMILIES: dict[str, SpectrumFamily] = {
    "log_uniform": log_uniform,
    "power_decay": power_decay,
    "laplacian": laplacian,
    "top_outliers": top_outliers,
    "clusters": clusters,
    "random_matrix": random_matrix,
    "low_outliers": low_outliers,
}
"""All families by name."""


def _uniform(size: int, generator: torch.Generator) -> Tensor:
    return torch.rand(size, generator=generator, dtype=torch.float64)


def _count(most: int, size: int, generator: torch.Generator) -> int:
    return int(torch.randint(1, min(most, size - 1) + 1, (), generator=generator))


def _finished(values: Tensor, condition: float) -> Tensor:
    """Return the values in order, with the largest 1 and none below the reciprocal of the condition number."""
    ordered = values.sort().values
    return (ordered / ordered[-1]).clamp(min=1 / max(condition, 1.0))
