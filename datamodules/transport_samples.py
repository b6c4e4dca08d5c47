"""Samples of steady diffusion and advection, each from its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.datamodules.field_cache import Fields
from lightning_regimes.datamodules.nested_grids import subsampled
from lightning_regimes.pde import SteadyTransport


@dataclass(frozen=True)
class TransportSamples:
    """Sources, coefficients and solutions on several grids, computed from the number of a sample.

    Attributes:
        problem: the equation.
        resolutions: of the grids.
        solver_resolution: of the grid on which the equation is solved.
        seed: whole numbers.
    """

    problem: SteadyTransport
    resolutions: tuple[int, ...]
    solver_resolution: int
    seed: tuple[int, ...]

    def __call__(self, indices: Sequence[int]) -> Fields:
        """Return ``{"x_<n>": (N, C, n, n), "y_<n>": (N, 1, n, n)}`` for each resolution ``n``.

        The channels are the source and, constant over the grid, the three entries of the tensor and, with advection,
        both of the velocity.
        """
        source, tensor, velocity = self.problem.sample(indices, resolution=self.solver_resolution, seed=self.seed)
        solution = self.problem.solve(source, tensor, velocity)
        constants = torch.cat([tensor, velocity], dim=1) if self.problem.advection[1] > 0 else tensor
        fields = {}
        for resolution in self.resolutions:
            coarse = subsampled(source, resolution, ends=False).unsqueeze(1)
            spread = constants[:, :, None, None].expand(-1, -1, resolution, resolution)
            fields[f"x_{resolution}"] = torch.cat([coarse, spread], dim=1)
            fields[f"y_{resolution}"] = subsampled(solution, resolution, ends=False).unsqueeze(1)
        return fields


def transport_residual(problem: SteadyTransport, x: Tensor, y: Tensor) -> Tensor:
    """Return ``−∇·(K ∇u) + v·∇u − f``, ``(B, 1, n, n)``, of channels as :class:`TransportSamples` has them."""
    constants = x[:, 1:, 0, 0]
    velocity = constants[:, 3:] if x.shape[1] == 6 else torch.zeros_like(constants[:, :2])
    return problem.residual(x[:, 0], constants[:, :3], velocity, y[:, 0]).unsqueeze(1)
