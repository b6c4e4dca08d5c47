"""Fixed-size summaries of persistence diagrams: Betti curves and persistence images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_regimes.landscape.persistence import PersistenceDiagram, intervals_of
from lightning_regimes.landscape.steepest_descent import Floats


@dataclass(frozen=True, eq=False)
class PersistenceImage:
    """A persistence diagram as a density.

    Attributes:
        values: density at the pixels, in classes per squared unit of the loss; shape (births, lengths).
        births: coordinates of the pixels along the first axis.
        lengths: coordinates along the second axis, death minus birth.
        bandwidth: standard deviation of the Gaussian.
    """

    values: Floats
    births: Floats
    lengths: Floats
    bandwidth: float


def betti_curve(diagram: PersistenceDiagram, dim: int, grid: ArrayLike) -> NDArray[np.int64]:
    r"""Count the classes that are alive at each level.

    .. math:: \beta(h) = |\{(b, d): b \le h < d\}|

    In dimension 0, the number of components of the sublevel set :math:`\{f \le h\}`. Classes that never end count.

    Args:
        diagram: the diagram.
        dim: dimension of homology.
        grid: levels h.

    Returns:
        Counts in the shape of ``grid``.

    Raises:
        ValueError: the diagram lacks that dimension.
    """
    intervals, levels = intervals_of(diagram, dim), np.asarray(grid, dtype=np.float64)
    births = np.sort(np.concatenate([intervals[:, 0], diagram.essential[dim]]))
    born = np.searchsorted(births, levels, side="right")
    dead = np.searchsorted(np.sort(intervals[:, 1]), levels, side="right")
    return np.asarray(born - dead, dtype=np.int64)


def persistence_image(
    diagram: PersistenceDiagram,
    dim: int = 0,
    *,
    bandwidth: float | None = None,
    resolution: tuple[int, int] = (20, 20),
    birth_range: tuple[float, float] | None = None,
    length_range: tuple[float, float] | None = None,
    weight: Callable[[Floats], ArrayLike] | None = None,
) -> PersistenceImage:
    r"""Smooth the classes that end, in the plane of birth b and length :math:`p = d - b`.

    .. math:: I(x, y) = \sum_{(b, d)} w(p) \frac1{2 \pi \sigma^2}
                        \exp\Big(-\frac{(x - b)^2 + (y - p)^2}{2 \sigma^2}\Big)

    Images that are compared need the same ranges and bandwidth.

    Args:
        diagram: the diagram.
        dim: dimension of homology.
        bandwidth: σ, in units of the loss; default a tenth of the upper end of ``length_range``.
        resolution: number of pixels along births and lengths.
        birth_range: first and last coordinate; default from the lowest to the highest birth.
        length_range: first and last coordinate; default from zero to the largest length.
        weight: w, of all lengths at once; default the length, so that noise near the diagonal counts little.

    Raises:
        ValueError: the diagram lacks that dimension, has no class in it where a default needs one, or a number is out
            of its range.

    References:
        Adams et al., Persistence images: a stable vector representation of persistent homology, JMLR 18 (2017).
    """
    intervals, lengths = intervals_of(diagram, dim), diagram.lengths(dim)
    if not len(lengths) and (birth_range is None or length_range is None):
        raise ValueError(f"without a class that ends in dimension {dim}, give `birth_range` and `length_range`")
    low, high = (intervals[:, 0].min(), intervals[:, 0].max()) if birth_range is None else birth_range
    first, last = (0.0, lengths.max()) if length_range is None else length_range
    bandwidth = float(last / 10 if bandwidth is None else bandwidth)
    if not bandwidth > 0:
        raise ValueError(f"`bandwidth` must be positive, got {bandwidth}")
    if len(resolution) != 2 or min(resolution) < 1:
        raise ValueError(f"`resolution` must be two positive numbers of pixels, got {resolution}")
    along_births = np.linspace(low, high, resolution[0])
    along_lengths = np.linspace(first, last, resolution[1])
    weights = np.broadcast_to(np.asarray(lengths if weight is None else weight(lengths), np.float64), lengths.shape)
    near_births = np.exp(-(((along_births[:, None] - intervals[:, 0]) / bandwidth) ** 2) / 2)
    near_lengths = np.exp(-(((along_lengths[:, None] - lengths) / bandwidth) ** 2) / 2)
    density = (near_births * weights) @ near_lengths.T / (2 * np.pi * bandwidth**2)
    return PersistenceImage(values=density, births=along_births, lengths=along_lengths, bandwidth=bandwidth)
