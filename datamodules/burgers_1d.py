"""The viscous Burgers equation: from initial values to those after a time."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_regimes.datamodules.burgers_samples import BurgersSamples
from lightning_regimes.datamodules.generated_datamodule import GeneratedDataModule
from lightning_regimes.datamodules.nested_grids import stride_between
from lightning_regimes.pde import ViscousBurgers


class Burgers1D(GeneratedDataModule):
    """Pairs of initial values ("x") and those after a time ("y") of ``u_t + u u_x = ν u_xx``, periodic on ``[0, 1]``.

    Batches are ``{"x": (B, 1, n), "y": (B, 1, n)}``.

    Args:
        problem: the equation; by default ``ν = 0.01``.
        num_train, num_val, num_test: samples in each part.
        resolution: nodes on a side of the grid to train on.
        test_resolutions: further grids to validate and test on.
        solver_resolution: of the grid on which samples are solved; the others take every so many nodes of it.
        duration: the time.
        batch_size: samples in a batch.
        seed: of the samples.
        cache_dir: where samples are kept; by default ``~/.cache/lightning-regimes/fields``.
        num_workers: processes that compute samples; 0 computes them in this one.
        progress: show a bar while samples are computed.

    Raises:
        ValueError: a number is out of range, or a grid has nodes that the solver's hasn't.
    """

    chunk_size = 128

    def __init__(
        self,
        problem: ViscousBurgers | None = None,
        *,
        num_train: int = 1000,
        num_val: int = 100,
        num_test: int = 200,
        resolution: int = 128,
        test_resolutions: Sequence[int] = (),
        solver_resolution: int = 512,
        duration: float = 1.0,
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
        for entry in self.resolutions("test"):
            stride_between(solver_resolution, entry, ends=False)
        if duration <= 0:
            raise ValueError(f"`duration` must be positive, got {duration}.")
        self.save_hyperparameters(ignore=["problem"])
        self.problem = problem or ViscousBurgers()
        self.solver_resolution = solver_resolution
        self.duration = duration

    def _recipe(self, part: str, resolutions: tuple[int, ...]) -> BurgersSamples:
        return BurgersSamples(self.problem, resolutions, self.solver_resolution, self.duration, self._sample_seed(part))
