"""Darcy flow: from the permeability of a medium to the pressure in it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_regimes.datamodules.darcy_samples import DarcySamples
from lightning_regimes.datamodules.generated_datamodule import GeneratedDataModule
from lightning_regimes.datamodules.nested_grids import stride_between
from lightning_regimes.pde import DarcyFlow


class Darcy(GeneratedDataModule):
    """Pairs of a coefficient ``a`` ("x") and the solution ``u`` ("y") of ``−∇·(a ∇u) = f`` on the unit square.

    Coefficients are the same functions at every resolution. Each grid has the solution of its own difference equation,
    for which ``problem.residual`` vanishes; with ``solver_resolution`` all have that of one fine grid at their nodes,
    as the published data do (421 nodes a side, of which every fifth is kept).

    Args:
        problem: the equation; by default ``a`` is 3 or 12 and ``f = 1``.
        num_train, num_val, num_test: samples in each part.
        resolution: nodes on a side of the grid to train on, the boundary among them.
        test_resolutions: further grids to validate and test on.
        solver_resolution: of the grid on which all samples are solved; the others must be nodes of it.
        num_modes: one-dimensional modes of the random field behind ``a``.
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
        problem: DarcyFlow | None = None,
        *,
        num_train: int = 1000,
        num_val: int = 100,
        num_test: int = 200,
        resolution: int = 33,
        test_resolutions: Sequence[int] = (),
        solver_resolution: int | None = None,
        num_modes: int = 128,
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
        if num_modes < 2:
            raise ValueError(f"`num_modes` must be at least 2, got {num_modes}.")
        if solver_resolution is not None:
            for entry in self.resolutions("test"):
                stride_between(solver_resolution, entry, ends=True)
        self.save_hyperparameters(ignore=["problem"])
        self.problem = problem or DarcyFlow()
        self.solver_resolution = solver_resolution
        self.num_modes = num_modes

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``−∇·(a ∇u) − f`` on the inner nodes, ``(B, 1, n − 2, n − 2)``, of batches of ``a`` and ``u``."""
        return self.problem.residual(x, y)

    def _recipe(self, part: str, resolutions: tuple[int, ...]) -> DarcySamples:
        return DarcySamples(self.problem, resolutions, self.solver_resolution, self.num_modes, self._sample_seed(part))
