"""Distances between persistence diagrams."""

from __future__ import annotations

import math

from lightning_regimes.landscape.persistence import PersistenceDiagram, intervals_of


def bottleneck(a: PersistenceDiagram, b: PersistenceDiagram, dim: int = 0) -> float:
    r"""Return the bottleneck distance of the classes that end.

    .. math:: d_\infty = \min_\gamma \max_{x \in a} \|x - \gamma(x)\|_\infty

    over the matchings γ of the points of the diagrams, where any may be matched to the diagonal. Two surfaces that
    differ by at most ε have diagrams within ε.

    Args:
        a: one diagram.
        b: the other.
        dim: dimension of homology.

    Raises:
        ValueError: a diagram lacks that dimension.

    References:
        Cohen-Steiner, Edelsbrunner, Harer, Stability of persistence diagrams, Discrete & Computational Geometry 37
        (2007).
    """
    from gudhi import bottleneck_distance

    return float(bottleneck_distance(intervals_of(a, dim), intervals_of(b, dim)))


def wasserstein(
    a: PersistenceDiagram,
    b: PersistenceDiagram,
    dim: int = 0,
    order: float = 1.0,
    *,
    relative_error: float = 0.01,
) -> float:
    r"""Return the Wasserstein distance of the classes that end.

    .. math:: W_q = \min_\gamma \Big(\sum_{x \in a} \|x - \gamma(x)\|_\infty^q\Big)^{1/q}

    over the matchings γ of the points of the diagrams, where any may be matched to the diagonal.

    Args:
        a: one diagram.
        b: the other.
        dim: dimension of homology.
        order: q, at least 1.
        relative_error: bound on the error, positive; a smaller one takes longer.

    Raises:
        ValueError: a diagram lacks that dimension, or a number is out of its range.

    References:
        Kerber, Morozov, Nigmetov, Geometry helps to compare persistence diagrams, arXiv:1606.03357.
    """
    from gudhi.hera import wasserstein_distance

    if not 1 <= order < math.inf:
        raise ValueError(f"`order` must be finite and at least 1, got {order}")
    if not relative_error > 0:
        raise ValueError(f"`relative_error` must be positive, got {relative_error}")
    return float(wasserstein_distance(intervals_of(a, dim), intervals_of(b, dim), order=order, delta=relative_error))
