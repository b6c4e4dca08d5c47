"""Samples of the viscous Burgers equation, each from its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_regimes.datamodules.field_cache import Fields
from lightning_regimes.datamodules.nested_grids import subsampled
from lightning_regimes.pde import ViscousBurgers


@dataclass(frozen=True)
class BurgersSamples:
    """Initial values and those after a time on several grids, computed from the number of a sample.

    Attributes:
        problem: the equation.
        resolutions: of the grids.
        solver_resolution: of the grid on which the equation is solved.
        duration: the time.
        seed: whole numbers.
    """

    problem: ViscousBurgers
    resolutions: tuple[int, ...]
    solver_resolution: int
    duration: float
    seed: tuple[int, ...]

    def __call__(self, indices: Sequence[int]) -> Fields:
        """Return ``{"x_<n>": (N, 1, n), "y_<n>": (N, 1, n)}`` for each resolution ``n``."""
        initial = self.problem.initial(indices, resolution=self.solver_resolution, seed=self.seed)
        frames = self.problem.solve(initial, num_frames=2, frame_interval=self.duration)
        fields = {}
        for resolution in self.resolutions:
            coarse = subsampled(frames, resolution, ends=False, dimension=1)
            fields[f"x_{resolution}"], fields[f"y_{resolution}"] = coarse[:, :1], coarse[:, 1:]
        return fields
