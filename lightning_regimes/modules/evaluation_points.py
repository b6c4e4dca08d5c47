"""The points on which a trained field is judged, and the solution there."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_regimes.pde import Problem, heldout_points


class EvaluationPoints:
    """Held-out points, the evaluation grid and solutions on it, each computed once for a dtype and device.

    Args:
        problem: whose points they are; solutions may be those of other coefficients.
        num_heldout: interior points among the held-out ones.
    """

    def __init__(self, problem: Problem, num_heldout: int) -> None:
        self._problem = problem
        self._num_heldout = num_heldout
        self._batches: dict[tuple[torch.dtype, torch.device], dict[str, Tensor]] = {}
        self._grids: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._solutions: dict[tuple[Problem, torch.dtype, torch.device], Tensor | None] = {}

    def heldout(self, like: Tensor) -> dict[str, Tensor]:
        """Return points that training never sees, under "interior" and the name of each condition."""
        key = (like.dtype, like.device)
        if key not in self._batches:
            # Made outside inference mode even if first asked for inside: derivatives are taken at them later.
            with torch.inference_mode(False):
                points = heldout_points(self._problem, self._num_heldout)
                self._batches[key] = {name: entry.to(like) for name, entry in points.items()}
        return self._batches[key]

    def grid(self, like: Tensor) -> Tensor:
        """Return the points of the evaluation grid, ``(N, d)``."""
        key = (like.dtype, like.device)
        if key not in self._grids:
            with torch.inference_mode(False):
                self._grids[key] = self._problem.evaluation_points().to(like)
        return self._grids[key]

    def solution(self, problem: Problem, like: Tensor) -> Tensor | None:
        """Return the problem's solution on the evaluation grid, ``(N, m)``, if it is known."""
        key = (problem, like.dtype, like.device)
        if key not in self._solutions:
            with torch.inference_mode(False):
                solution = problem.solution(self._problem.evaluation_points())
                self._solutions[key] = None if solution is None else solution.to(like)
        return self._solutions[key]
