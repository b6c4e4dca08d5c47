"""Diffusion with a random tensor: from sources to the solution."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lightning_regimes.datamodules.generated_datamodule import GeneratedDataModule
from lightning_regimes.datamodules.nested_grids import stride_between
from lightning_regimes.datamodules.transport_samples import TransportSamples, transport_residual
from lightning_regimes.pde import SteadyTransport


class PoissonFields(GeneratedDataModule):
    """Pairs of a source with its tensor ("x") and the solution ("y") of ``−∇·(K ∇u) = f`` on the unit torus.

    Batches are ``{"x": (B, 4, n, n), "y": (B, 1, n, n)}``; the channels of "x" are ``f, K_xx, K_xy, K_yy``, of which
    all but the first are constant over the grid. Diffusion along one direction is faster by a random factor, and its
    range, ``problem.eigenvalues``, makes the task harder.

    Args:
        problem: the equation, without advection; by default the factor lies between 1 and 5.
        num_train, num_val, num_test: samples in each part.
        resolution: nodes on a side of the grid to train on.
        test_resolutions: further grids to validate and test on.
        solver_resolution: of the grid on which samples are solved; the others take every so many nodes of it.
        batch_size: samples in a batch.
        seed: of the samples.
        cache_dir: where samples are kept; by default ``~/.cache/lightning-regimes/fields``.
        num_workers: processes that compute samples; 0 computes them in this one.
        progress: show a bar while samples are computed.

    Raises:
        ValueError: a number is out of range, ``problem`` has advection, or a grid has nodes that the solver's hasn't.
    """

    input_channels = 4

    def __init__(
        self,
        problem: SteadyTransport | None = None,
        *,
        num_train: int = 1000,
        num_val: int = 100,
        num_test: int = 200,
        resolution: int = 64,
        test_resolutions: Sequence[int] = (),
        solver_resolution: int = 128,
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
        self.save_hyperparameters(ignore=["problem"])
        self.problem = problem or SteadyTransport()
        if self.problem.advection[1] > 0:
            raise ValueError("`problem` of PoissonFields must have no advection; use AdvectionDiffusion.")
        self.solver_resolution = solver_resolution

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``−∇·(K ∇u) − f``, ``(B, 1, n, n)``, of batches."""
        return transport_residual(self.problem, x, y)

    def _recipe(self, part: str, resolutions: tuple[int, ...]) -> TransportSamples:
        return TransportSamples(self.problem, resolutions, self.solver_resolution, self._sample_seed(part))
