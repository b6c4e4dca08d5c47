"""The principal components of a few points in a large space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Entries of the points that are in float64 at a time.
_BLOCK = 2**20


def principal_components(points: Sequence[Tensor], n: int) -> tuple[Tensor, list[float], list[float]]:
    r"""Return the n directions in which points vary most about their mean, and how much.

    With the centred points as the columns of X, the eigenvectors u of :math:`X^\top X`, m × m, give the directions
    :math:`X u`. It is summed in float64.

    Args:
        points: m vectors of the same size.
        n: number of directions, at most m − 1.

    Returns:
        Orthonormal columns, shape (size, n), float64, the entry of largest magnitude positive; the variances
        :math:`s_i^2 / (m - 1)`; and their shares in the total variance.

    Raises:
        ValueError: the points span less than n directions.
    """
    if len(points) <= n:
        raise ValueError(f"`points` must be more than `n`={n}, got {len(points)}")
    size, m = len(points[0]), len(points)
    blocks = [slice(begin, begin + _BLOCK) for begin in range(0, size, _BLOCK)]

    def centred(block: slice) -> Tensor:
        rows = torch.stack([point[block].double() for point in points], dim=1)
        return rows - rows.mean(dim=1, keepdim=True)

    gram = sum((X.T @ X for X in map(centred, blocks)), torch.zeros(m, m, dtype=torch.float64, device=points[0].device))
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    # Below that, an eigenvalue of the Gram matrix is its rounding.
    rank = int((values > m * torch.finfo(torch.float64).eps * values[0]).sum())
    if rank < n:
        raise ValueError(f"`points` vary in {rank} directions only, fewer than `n`={n}")
    components = torch.cat([centred(block) @ vectors[:, :n] for block in blocks])
    components, _ = torch.linalg.qr(components)
    largest = components.gather(0, components.abs().argmax(0, keepdim=True))
    total = float(values.sum())
    return (
        components * largest.sign(),
        [float(value) / (m - 1) for value in values[:n]],
        [float(value) / total for value in values[:n]],
    )
