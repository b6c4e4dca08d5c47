"""Where a training has been: points evenly spread over it, for the path in a picture of the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lightning_regimes.parameter_selection import ParameterFilter, real_leaf, select_parameters


class WeightTrajectory:
    """Keeps at most ``capacity`` points of a training, whatever its length, each on the CPU.

    It begins with every step. Whenever it is full, it lets go of every other point, and keeps half as many of the steps
    from then on.

    Args:
        capacity: number of points, 0 for none.

    Raises:
        ValueError: ``capacity`` is negative or 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 0 or capacity == 1:
            raise ValueError(f"`trajectory` is 0 or at least 2 points, got {capacity}")
        self.capacity = capacity
        self.steps: list[int] = []
        self.points: list[Tensor] = []
        self.names: tuple[str, ...] = ()
        self._stride = 1
        self._num_offered = 0

    def offer(self, step: int, module: nn.Module, parameters: ParameterFilter | None) -> None:
        """Keep the point if its turn has come: the selected parameters as one vector, shape (num_parameters,).

        Which parameters these are is settled by the first point, whatever is frozen or thawed later.

        Raises:
            ValueError: none is selected.
            KeyError: one of them is gone.
        """
        if not self.capacity or (self.steps and step <= self.steps[-1]):
            return
        self._num_offered += 1
        if (self._num_offered - 1) % self._stride:
            return
        self.names = self.names or tuple(select_parameters(module, parameters))
        present = dict(module.named_parameters())
        leaves = [present[name] for name in self.names]
        flat = [real_leaf(leaf, leaf.dtype).detach().reshape(-1) for leaf in leaves]
        self.steps.append(step)
        self.points.append(torch.cat(flat).to("cpu", copy=True))
        if len(self.steps) > self.capacity:
            self._stride *= 2
            self.steps, self.points = self.steps[::2], self.points[::2]

    def coordinates(self, origin: Tensor, vectors: Tensor) -> tuple[Tensor, float]:
        r"""Return the points in the plane through ``origin``, and how much of their way lies in it.

        Args:
            origin: shape (n,).
            vectors: the axes as columns, shape (n, d), independent.

        Returns:
            The coordinates nearest to each point, shape (m, d), float64, in multiples of the vectors; and
            :math:`\sum \|\text{in the plane}\|^2 / \sum \|\text{whole}\|^2` over all displacements from ``origin``, 1
            where there is none.
        """
        axes = vectors.detach().to("cpu", torch.float64)
        start = origin.detach().to("cpu", torch.float64)
        displacements = torch.stack([point.double() - start for point in self.points])
        coordinates = torch.linalg.solve(axes.T @ axes, axes.T @ displacements.T).T
        whole = float(displacements.square().sum())
        inside = float((coordinates @ axes.T).square().sum())
        return coordinates, inside / whole if whole > 0 else 1.0
