"""A spectral density over eigenvalues of both signs and many magnitudes, from quadrature nodes and weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

# Lanczos quadrature tells outliers apart at any size; towards zero its nodes thin out, about three decades down.
_RESOLVED = 1e-3
_MARGIN_IN_WIDTHS = 5.0


def signed_log(values: ArrayLike, threshold: float) -> Array:
    r"""Return :math:`\operatorname{sign}(x) \log_{10}(1 + |x| / s)`: decades far from zero, linear below s."""
    array = np.asarray(values, dtype=np.float64)
    return np.asarray(np.sign(array) * np.log10(1 + np.abs(array) / threshold))


def signed_power(positions: ArrayLike, threshold: float) -> Array:
    """Return the values at these positions, the inverse of :func:`signed_log`."""
    array = np.asarray(positions, dtype=np.float64)
    return np.asarray(np.sign(array) * threshold * (10.0 ** np.abs(array) - 1))


@dataclass(frozen=True)
class SignedLogDensity:
    r"""Density of eigenvalues over their signed logarithm; it integrates to one over ``positions``.

    Attributes:
        positions: shape (g,), ascending and evenly spaced; signed logarithms.
        grid: shape (g,); the eigenvalues there.
        density: shape (g,); per unit of position, that is per decade where eigenvalues are far above the threshold.
        standard_error: shape (g,); estimated standard deviation of ``density`` over the choice of starts.
        threshold: s of the signed logarithm, in units of the eigenvalues.
        width: standard deviation of the Gaussian in place of each node, in units of position.
    """

    positions: Array
    grid: Array
    density: Array
    standard_error: Array
    threshold: float
    width: float


def signed_log_density(
    nodes: ArrayLike,
    weights: ArrayLike,
    *,
    threshold: float | None = None,
    width: float | None = None,
    positions: ArrayLike | int = 512,
) -> SignedLogDensity:
    r"""Broaden the nodes of a stochastic Lanczos quadrature on the signed logarithm of the eigenvalue.

    .. math:: \phi(y) = \frac{1}{v} \sum_{l,j} w_{lj} \, \mathcal N(y; y(\theta_{lj}), \sigma^2)
        \qquad y(x) = \operatorname{sign}(x) \log_{10}(1 + |x| / s)

    The few large eigenvalues and the many near zero, of either sign, are thus seen at once. Nodes of several
    measurements on the same positions, with one threshold and width, give densities that compare.

    Args:
        nodes: shape (v, m); as of :class:`~lightning_regimes.curvature.SpectralDensity`.
        weights: shape (v, m); they sum to one for each start.
        threshold: s; default the largest magnitude among the nodes over 1000, or 1 where all are zero.
        width: σ; default the extent of the nodes' positions over m, at least a thousandth.
        positions: where to evaluate; or how many evenly spaced points, which cover all nodes and five widths beyond.

    Raises:
        ValueError: shapes do not fit, nodes are not finite, or a threshold or width is not positive.
    """
    nodes, weights = np.asarray(nodes, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if nodes.ndim != 2 or nodes.shape != weights.shape or not nodes.size:
        raise ValueError(f"`nodes` and `weights` have one shape (v, m), got {nodes.shape} and {weights.shape}")
    if not (np.isfinite(nodes).all() and np.isfinite(weights).all()):
        raise ValueError("`nodes` and `weights` must be finite")
    if threshold is None:
        threshold = _RESOLVED * float(np.abs(nodes).max()) or 1.0
    for name, value in (("threshold", threshold), ("width", width)):
        if value is not None and not 0 < value < np.inf:
            raise ValueError(f"`{name}` must be positive and finite, got {value}")
    centres = signed_log(nodes, threshold)
    if width is None:
        width = max(float(np.ptp(centres)) / nodes.shape[1], 1e-3)
    if isinstance(positions, int):
        margin = _MARGIN_IN_WIDTHS * width
        positions = np.linspace(centres.min() - margin, centres.max() + margin, positions)
    at = np.asarray(positions, dtype=np.float64)
    samples = np.stack([_broadened(at, *start, width) for start in zip(centres, weights, strict=True)])
    num_starts = len(samples)
    error = samples.std(0, ddof=1) / np.sqrt(num_starts) if num_starts > 1 else np.full(at.shape, np.nan)
    return SignedLogDensity(at, signed_power(at, threshold), samples.mean(0), error, threshold, width)


def _broadened(positions: Array, centres: Array, weights: Array, width: float) -> Array:
    distances = (positions[:, None] - centres) / width
    return np.asarray(np.exp(-0.5 * distances**2) @ weights / (width * np.sqrt(2 * np.pi)))
