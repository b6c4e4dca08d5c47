"""Samples of a periodic flow, each from its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_regimes.datamodules.field_cache import Fields
from lightning_regimes.datamodules.nested_grids import subsampled
from lightning_regimes.pde import KolmogorovFlow, NavierStokesFlow


@dataclass(frozen=True)
class FlowSamples:
    """Trajectories of a flow, computed from the number of a sample.

    Attributes:
        problem: the flow.
        resolutions: of the grids.
        solver_resolution: of the grid on which the flow is computed.
        num_frames: in a trajectory.
        num_skipped: frames before the first that is kept.
        frame_interval: time from one to the next.
        seed: whole numbers.
    """

    problem: NavierStokesFlow | KolmogorovFlow
    resolutions: tuple[int, ...]
    solver_resolution: int
    num_frames: int
    num_skipped: int
    frame_interval: float
    seed: tuple[int, ...]

    def __call__(self, indices: Sequence[int]) -> Fields:
        """Return ``{"frames_<n>": (N, T, n, n)}`` for each resolution ``n``."""
        initial = self.problem.initial(indices, resolution=self.solver_resolution, seed=self.seed)
        frames = self.problem.solve(
            initial, num_frames=self.num_skipped + self.num_frames, frame_interval=self.frame_interval
        )[:, self.num_skipped :]
        return {f"frames_{entry}": subsampled(frames, entry, ends=False) for entry in self.resolutions}
