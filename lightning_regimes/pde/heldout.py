"""Points that no training run draws, the same ones in every run."""

from __future__ import annotations

from torch import Tensor

from lightning_regimes.pde.points import sobol_sampler
from lightning_regimes.pde.problem import Problem

INTERIOR = "interior"
"""Name of the points, and of the loss term, of the equation itself; each condition has its own name."""

_SEED = 20_240_229


def heldout_points(problem: Problem, num_points: int = 2048, *, seed: int = _SEED) -> dict[str, Tensor]:
    """Return fixed Sobol points: ``num_points`` in the box and a quarter of that on each face with a condition.

    Args:
        problem: whose box and conditions to cover.
        num_points: points in the box; powers of two are best balanced.
        seed: of the scrambling; other seeds give other points.

    Returns:
        ``(N, d)`` points in float64 under "interior" and the name of each condition.

    Raises:
        ValueError: ``num_points`` is below 4.
    """
    if num_points < 4:
        raise ValueError(f"`num_points` must be at least 4 so that each condition has a point, got {num_points}.")
    sampler = sobol_sampler(seed)
    points = {INTERIOR: problem.points(num_points, sampler)}
    for condition in problem.conditions:
        points[condition.name] = condition.sample(num_points // 4, sampler)
    return points
