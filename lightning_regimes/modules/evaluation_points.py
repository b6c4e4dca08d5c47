"""The points on which a trained field is judged, and the solution there."""

from __future__ import annotations

from collections.abc import Callable

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
        self._values: dict[tuple[Problem | None, torch.dtype, torch.device], Tensor] = {}

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
        return self._value(None, like, self._problem.evaluation_points)

    def solution(self, problem: Problem, like: Tensor) -> Tensor:
        """Return the problem's solution on the evaluation grid, ``(N, m)``."""
        return self._value(problem, like, lambda: problem.solution(self._problem.evaluation_points()))

    def _value(self, problem: Problem | None, like: Tensor, make: Callable[[], Tensor]) -> Tensor:
        key = (problem, like.dtype, like.device)
        if key not in self._values:
            with torch.inference_mode(False):
                self._values[key] = make().to(like)
        return self._values[key]
