"""How far the Gram matrix of a gradient's rows is diagonal, which is where row-wise and matrix optimizers agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.optim.row_normalize import row_normalize
from lightning_regimes.optim.spectral_power import polar_factor
from lightning_regimes.spectral.real_matrix import magnitude, require_real_matrix

_MOST_ENTRIES = 2**24


@dataclass(frozen=True)
class RowDominance:
    r"""The diagonal of a Gram matrix over the mean size of what is beside it, row by row.

    Attributes:
        ratios: :math:`r_i` of the rows that were taken and are not zero, shape (rows,), float64; infinite for a row at
            right angles to all others.
        cosine: between the row-normalized matrix and its polar factor, 1 where both updates agree; NaN for a matrix of
            zeros.
    """

    ratios: Tensor
    cosine: float

    @property
    def minimum(self) -> float:
        """The smallest ratio; NaN without any."""
        return float(self.ratios.min()) if len(self.ratios) else math.nan

    @property
    def mean(self) -> float:
        """The mean ratio; NaN without any."""
        return float(self.ratios.mean())

    @property
    def maximum(self) -> float:
        """The largest ratio; NaN without any."""
        return float(self.ratios.max()) if len(self.ratios) else math.nan


def row_dominance(x: Tensor, *, max_rows: int | None = None) -> RowDominance:
    r"""Measure how far the rows of a matrix, as the gradient or momentum of a weight, are at right angles.

    For :math:`P = V V^T`, shape m × m, on the side of the rows whatever the shape of V:

    .. math:: r_i = \frac{P_{ii}}{\frac{1}{m - 1} \sum_{j \ne i} |P_{ij}|}, \qquad
        \cos = \frac{\langle D, U W^T \rangle}{\|D\| \, \|U W^T\|}

    with D the row-normalized matrix, the update of RMNP, and :math:`U W^T` the polar factor of V, that of Muon. Where
    the rows are at right angles, r is infinite and the two are the same. A large mean of r alone does not bring them
    close: in wide matrices many small entries beside the diagonal add up. In float64.

    Args:
        x: V, two dimensions or more, the matrix (out, everything else), with two rows or more.
        max_rows: rows to take the ratio of, evenly spaced, each with all others; default all. The cost is m·n for each.

    Raises:
        ValueError: ``x`` is no real matrix of two rows, is not finite, or ``max_rows`` is below 1.

    References:
        RMNP: row-momentum normalized preconditioning, arXiv:2603.20527.
    """
    require_real_matrix(x)
    if max_rows is not None and max_rows < 1:
        raise ValueError(f"`max_rows` is at least 1, got {max_rows}")
    matrix = x.detach().flatten(1)
    rows = len(matrix)
    if rows < 2:
        raise ValueError(f"`x` has two rows or more, got shape {tuple(x.shape)}")
    if matrix.device.type == "mps":  # has no float64
        matrix = matrix.cpu()
    # The ratios and the cosine do not depend on the scale, and squares of tiny gradients are zero.
    scaled = matrix / magnitude(matrix)
    matrix = scaled.double()
    count = rows if max_rows is None else min(max_rows, rows)
    taken = torch.linspace(0, rows - 1, count, dtype=torch.float64, device=matrix.device).round().long()
    # Ratios beside a row of zeros are of the other rows alone; its own is not defined.
    ratios = []
    for chunk in taken.split(max(1, _MOST_ENTRIES // rows)):
        gram = (matrix[chunk] @ matrix.T).abs()
        diagonal = gram.gather(1, chunk[:, None])[:, 0]
        beside = gram.scatter(1, chunk[:, None], 0.0).sum(1) / (rows - 1)
        ratios.append((diagonal / beside)[diagonal > 0])
    normalized = row_normalize(matrix, eps=torch.finfo(torch.float64).tiny)
    # In the precision of the input, by which it is told which singular values are zero but for rounding.
    polar = polar_factor(scaled, method="eigh").double()
    norms = float(torch.linalg.vector_norm(normalized) * torch.linalg.vector_norm(polar))
    cosine = float((normalized * polar).sum()) / norms if norms else math.nan
    return RowDominance(torch.cat(ratios), cosine)
