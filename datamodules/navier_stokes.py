"""Turbulent vorticity: from some frames of a flow to those that follow."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lightning_regimes.datamodules.field_batches import Batch, FieldPairs, FramePairs, field_loader
from lightning_regimes.datamodules.field_cache import Fields
from lightning_regimes.datamodules.field_normalization import FieldNormalizer
from lightning_regimes.datamodules.flow_samples import FlowSamples
from lightning_regimes.datamodules.generated_datamodule import GeneratedDataModule
from lightning_regimes.datamodules.nested_grids import stride_between
from lightning_regimes.pde import KolmogorovFlow, NavierStokesFlow


class NavierStokes(GeneratedDataModule):
    """Pairs of a history of vorticity frames ("x") and the next frame ("y"), from trajectories of a periodic flow.

    Batches are ``{"x": (B, history, n, n), "y": (B, 1, n, n)}``, over all windows of all trajectories, oldest frame
    first. Validation and test have one more loader, "rollout", with the beginning of each trajectory as "x" and "y",
    and all frames that follow "x" as "trajectory", ``(B, num_frames − history, n, n)``.

    Both normalizers have one mean and one standard deviation for all frames, so that a prediction can be the next
    input.

    Args:
        problem: the flow; by default forced turbulence with ``ν = 1e-3``.
        num_train, num_val, num_test: trajectories in each part.
        resolution: nodes on a side of the grid to train on.
        test_resolutions: further grids to validate and test on.
        solver_resolution: of the grid on which flows are computed; the others take every so many nodes of it.
        num_frames: frames in a trajectory.
        frame_interval: time from one frame to the next.
        num_skipped: frames at the beginning of a flow that are left out.
        history: frames that are given.
        batch_size: samples in a batch.
        seed: of the samples.
        cache_dir: where samples are kept; by default ``~/.cache/lightning-regimes/fields``.
        num_workers: processes that compute samples; 0 computes them in this one.
        progress: show a bar while samples are computed.

    Raises:
        ValueError: a number is out of range, or a grid has nodes that the solver's hasn't.
    """

    chunk_size = 16

    def __init__(
        self,
        problem: NavierStokesFlow | KolmogorovFlow | None = None,
        *,
        num_train: int = 64,
        num_val: int = 8,
        num_test: int = 8,
        resolution: int = 32,
        test_resolutions: Sequence[int] = (),
        solver_resolution: int = 64,
        num_frames: int = 20,
        frame_interval: float = 1.0,
        num_skipped: int = 0,
        history: int = 1,
        batch_size: int = 32,
        seed: int = 0,
        cache_dir: str | None = None,
        num_workers: int = 0,
        progress: bool = True,
    ) -> None:
        super().__init__(
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            resolution=resolution,
            test_resolutions=test_resolutions,
            batch_size=batch_size,
            seed=seed,
            cache_dir=cache_dir,
            num_workers=num_workers,
            progress=progress,
        )
        if history < 1:
            raise ValueError(f"`history` must be at least 1, got {history}.")
        if num_frames <= history:
            raise ValueError(f"`num_frames` must be above `history`, which is {history}, got {num_frames}.")
        if num_skipped < 0:
            raise ValueError(f"`num_skipped` must not be negative, got {num_skipped}.")
        if frame_interval <= 0:
            raise ValueError(f"`frame_interval` must be positive, got {frame_interval}.")
        for entry in self.resolutions("test"):
            stride_between(solver_resolution, entry, ends=False)
        self.save_hyperparameters(ignore=["problem"])
        self.problem = problem or NavierStokesFlow()
        self.solver_resolution = solver_resolution
        self.num_frames = num_frames
        self.frame_interval = frame_interval
        self.num_skipped = num_skipped
        self.history = history

    @property
    def input_channels(self) -> int:  # type: ignore[override]
        """Frames that are given."""
        return self.history

    def dataloader_names(self, part: str) -> tuple[str, ...]:
        """Return the names of the loaders of "val" or "test", in their order."""
        return (*super().dataloader_names(part), "rollout")

    def trajectories(self, part: str, resolution: int | None = None) -> Tensor:
        """Return the frames of all trajectories of a part, ``(N, num_frames, n, n)``."""
        return super().fields(part, resolution)["frames"]

    def fields(self, part: str, resolution: int | None = None) -> Fields:
        """Return all pairs of a part, ``{"x": (N, history, n, n), "y": (N, 1, n, n)}``."""
        pairs = FramePairs(self.trajectories(part, resolution), history=self.history)
        return pairs.__getitems__(range(len(pairs)))

    def _loaders(self, part: str) -> list[DataLoader[Batch]]:
        frames, seen = self.trajectories(part), self.history
        whole = {"x": frames[:, :seen], "y": frames[:, seen : seen + 1], "trajectory": frames[:, seen:]}
        return [*super()._loaders(part), field_loader(FieldPairs(whole), batch_size=self.batch_size)]

    def _dataset(self, part: str, resolution: int) -> Dataset[Batch]:
        return FramePairs(self.trajectories(part, resolution), history=self.history)

    def _fitted(self) -> dict[str, FieldNormalizer]:
        frames = self.trajectories("train")
        whole = FieldNormalizer.fit(frames, shared=True)
        return {
            "x": FieldNormalizer(whole.mean[: self.history].clone(), whole.std[: self.history].clone()),
            "y": FieldNormalizer(whole.mean[:1].clone(), whole.std[:1].clone()),
        }

    def _recipe(self, part: str, resolutions: tuple[int, ...]) -> FlowSamples:
        return FlowSamples(
            self.problem,
            resolutions,
            self.solver_resolution,
            self.num_frames,
            self.num_skipped,
            self.frame_interval,
            self._sample_seed(part),
        )
