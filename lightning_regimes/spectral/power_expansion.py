"""Powers of the singular values as a weighted sum of Newton–Schulz iterates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_regimes.spectral.odd_expansion import OddExpansion, Stage
from lightning_regimes.spectral.stages import STAGES

_EXACT = 1e-9
_POINTS_PER_STAGE = 300


def power_expansion(power: float, *, lower: float = 1e-4, stages: Sequence[Stage] | None = None) -> OddExpansion:
    r"""Return the expansion that raises singular values to a power, with the least largest relative error.

    .. math:: \min_d \; \max_{\ell \le \sigma \le 1} \Bigl| \sigma^{-p} \sum_k d_k x_k(\sigma) - 1 \Bigr|

    for fixed stages, over the iterates :math:`x_k` of a singular value, by a linear program. The stages that come with
    the package serve every power; only the weights are fitted here. The largest relative error, and the matrix
    products that a square matrix takes:

    ===========  ========  =========  =======
    ``lower``    products  p = 1/8    any p
    ===========  ========  =========  =======
    0.1          9         0.27 %     0.32 %
    0.01         15        0.29 %     0.44 %
    0.001        21        0.38 %     0.44 %
    0.0001       24        1.8 %      2.1 %
    0.00001      30        1.8 %      1.9 %
    ===========  ========  =========  =======

    Below ``lower`` the result falls in proportion to σ, so that what is null stays small.

    Args:
        power: p, between 0 and 1.
        lower: the smallest singular value, relative to the scale, at which the error counts.
        stages: triples a, b, c of the iteration; default the shortest of the package that reach ``lower``.

    Raises:
        ValueError: ``power`` or ``lower`` is out of its range.

    Example:
        >>> expansion = power_expansion(0.125, lower=1e-2)
        >>> expansion.num_matmuls((512, 512)), max_relative_error(expansion, 1e-2) < 0.003
        (15, True)
    """
    if not 0 <= power <= 1:
        raise ValueError(f"`power` must be between 0 and 1, got {power}")
    if not 0 < lower < 1:
        raise ValueError(f"`lower` must be between 0 and 1, got {lower}")
    if stages is None:
        reaching = [reach for reach in STAGES if reach <= lower * (1 + 1e-9)]
        if not reaching:
            raise ValueError(f"`lower` must be at least {min(STAGES)} without `stages`, got {lower}")
        stages = STAGES[max(reaching)]
    return _fitted(float(power), float(lower), tuple((float(a), float(b), float(c)) for a, b, c in stages))


def max_relative_error(expansion: OddExpansion, lower: float, *, num_points: int = 4001) -> float:
    r"""Return the largest :math:`|Y(\sigma) \, \sigma^{-p} - 1|` for σ from ``lower`` to 1, p being the degree.

    Args:
        expansion: the odd function Y.
        lower: where the interval begins.
        num_points: at which the error is taken, evenly spaced in log σ.
    """
    sigma = torch.exp(torch.linspace(math.log(lower), 0, num_points, dtype=torch.float64))
    return float((expansion.scalar(sigma) / sigma**expansion.degree - 1).abs().max())


@lru_cache(maxsize=256)
def _fitted(power: float, lower: float, stages: tuple[Stage, ...]) -> OddExpansion:
    num_points = _POINTS_PER_STAGE * len(stages)
    sigma = torch.exp(torch.linspace(math.log(lower), 0, num_points, dtype=torch.float64))
    iterates = [sigma]
    for a, b, c in stages:
        square = iterates[-1].square()
        iterates.append(iterates[-1] * (a + square * (b + c * square)))
    relative = torch.stack(iterates, dim=1) / sigma.unsqueeze(1) ** power
    weights = _minimax(relative.numpy())
    return OddExpansion(stages, weights.tolist(), degree=power)


def _minimax(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the combination of the columns whose largest difference from one is least."""
    # An optimizer that never fits an expansion should not load it.
    from scipy.optimize import linprog

    num_points, num_columns = matrix.shape
    solution = np.asarray(np.linalg.lstsq(matrix, np.ones(num_points), rcond=None)[0], dtype=np.float64)
    # A fit without error, as of p = 1, is more exact than the tolerance of the linear program.
    if np.abs(matrix @ solution - 1).max() < _EXACT:
        return solution
    bound = -np.ones((num_points, 1))
    program = linprog(
        np.append(np.zeros(num_columns), 1.0),
        A_ub=np.block([[matrix, bound], [-matrix, bound]]),
        b_ub=np.concatenate([np.ones(num_points), -np.ones(num_points)]),
        bounds=(None, None),
        method="highs",
    )
    if not program.success:
        raise RuntimeError(f"the weights could not be fitted: {program.message}")
    return np.asarray(program.x[:-1], dtype=np.float64)
