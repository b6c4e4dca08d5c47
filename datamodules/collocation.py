"""Points at which a differential equation and its conditions are enforced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from torch import Tensor

from lightning_regimes.pde import INTERIOR, Problem, heldout_points, sobol_sampler, uniform_sampler

Batch = dict[str, Tensor]

_ADDED_DRAWS = 1_000_003


class Collocation(L.LightningDataModule):
    """Collocation points of a differential equation: a batch is ``{"interior": (N, d), <condition>: (M, d), …}``.

    The full set is one batch by default, as L-BFGS and most published runs have it. An "epoch" is then
    ``steps_per_epoch`` times the same batch, without worker processes, copies or draws from the global generator.

    Sampling "grid" is the benchmark layout: interior points are drawn without replacement from the problem's
    collocation grid (257 × 101 for problems in ``x`` and ``t``), and each condition gets all grid points of its faces.
    "uniform" and "sobol" draw ``num_interior`` points from the box and ``num_condition`` points from each face.

    Validation and test use fixed held-out points; prediction runs over the problem's evaluation grid.
    Every process of a distributed run gets the same points.

    Args:
        problem: the equation; by default the ``problem`` of the module that is being trained.
        num_interior: number of interior points.
        sampling: "grid", "uniform" or "sobol".
        num_condition: points on each face with a condition; unused by "grid".
        batch_size: interior points a step, drawn anew in each epoch; None takes all. Conditions are always whole.
        steps_per_epoch: full-batch steps that make an epoch; unused with ``batch_size``.
        resample_every_n_epochs: draw new points this often; 0 keeps them.
        num_validation: interior points for validation.
        seed: of this datamodule's own generators.

    Raises:
        ValueError: a number is out of range, or there are fewer grid points than ``num_interior``.
    """

    def __init__(
        self,
        problem: Problem | None = None,
        *,
        num_interior: int = 1000,
        sampling: Literal["grid", "uniform", "sobol"] = "grid",
        num_condition: int = 256,
        batch_size: int | None = None,
        steps_per_epoch: int = 100,
        resample_every_n_epochs: int = 0,
        num_validation: int = 2048,
        seed: int = 0,
    ) -> None:
        super().__init__()
        positive = {"num_interior": num_interior, "num_condition": num_condition, "steps_per_epoch": steps_per_epoch}
        if batch_size is not None:
            positive["batch_size"] = batch_size
        for name, value in positive.items():
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        if resample_every_n_epochs < 0:
            raise ValueError(f"`resample_every_n_epochs` must not be negative, got {resample_every_n_epochs}.")
        if sampling not in ("grid", "uniform", "sobol"):
            raise ValueError(f'`sampling` must be "grid", "uniform" or "sobol", got {sampling!r}.')
        self.save_hyperparameters(ignore=["problem"])
        self._problem = problem
        self.num_interior = num_interior
        self.sampling = sampling
        self.num_condition = num_condition
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.resample_every_n_epochs = resample_every_n_epochs
        self.num_validation = num_validation
        self.seed = seed
        self._drawn: tuple[int, Batch] | None = None
        self._added = (1, 0)
        self._transferred: tuple[Any, torch.device, Any] | None = None

    @property
    def problem(self) -> Problem:
        """The equation: the one given, or that of the module that is being trained.

        Raises:
            RuntimeError: there is neither.
        """
        if self._problem is not None:
            return self._problem
        module = getattr(self.trainer, "lightning_module", None)
        problem = getattr(module, "problem", None)
        if not isinstance(problem, Problem):
            raise RuntimeError(
                "Collocation was given no `problem`, and there is no module with one: pass `problem=`, or train a PINN."
            )
        return problem

    def training_batch(self, draw: int = 0) -> Batch:
        """Return the whole set of training points; another ``draw`` gives other points, the same one the same.

        Returns:
            ``(N, d)`` points in the default dtype under "interior" and the name of each condition.
        """
        if self._drawn is None or self._drawn[0] != draw:
            self._drawn = (draw, _in_default_dtype(self._draw(draw)))
        return self._drawn[1]

    @property
    def full_batch(self) -> bool:
        """Whether each step sees all training points."""
        return self.batch_size is None

    def renew_training_data(self, *, factor: int = 1, draw: int = 0) -> None:
        """Train on other points from the next step on (full batches), or from the next epoch on.

        Args:
            factor: times as many interior points as ``num_interior``, as far as the grid has them.
            draw: another number gives other points; 0 with a factor of 1 are the first ones.

        Raises:
            ValueError: a number is out of range.
        """
        if factor < 1 or draw < 0:
            raise ValueError(f"`factor` must be at least 1 and `draw` not negative, got {factor} and {draw}.")
        if (factor, draw) != self._added:
            self._added, self._drawn = (factor, draw), None

    @property
    def num_training_points(self) -> int:
        """How many interior points there are, those that were added included."""
        wanted = self.num_interior * self._added[0]
        return wanted if self.sampling != "grid" or self._added[0] == 1 else min(wanted, len(self._grid()))

    def train_dataloader(self) -> Steps:
        """Return the training batches of an epoch."""
        if self.batch_size is None:
            return Steps(self.steps_per_epoch, self._full_batches)
        return Steps(-(-self.num_training_points // self.batch_size), self._mini_batches)

    def val_dataloader(self) -> Steps:
        """Return one batch of fixed held-out points."""
        heldout = _in_default_dtype(heldout_points(self.problem, self.num_validation))
        return Steps(1, lambda: iter([heldout]))

    def test_dataloader(self) -> Steps:
        """Return one batch of fixed held-out points."""
        return self.val_dataloader()

    def predict_dataloader(self) -> Steps:
        """Return the points of the evaluation grid in one batch, ``(N, d)``."""
        points = self.problem.evaluation_points().to(torch.get_default_dtype())
        return Steps(1, lambda: iter([points]))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch, once as long as it's the same one."""
        if self._transferred is None or self._transferred[0] is not batch or self._transferred[1] != device:
            moved = super().transfer_batch_to_device(batch, device, dataloader_idx)
            self._transferred = (batch, device, moved)
        return self._transferred[2]

    def _full_batches(self) -> Iterator[Batch]:
        draw = self._current_draw()
        for _ in range(self.steps_per_epoch):
            yield self.training_batch(draw)

    def _mini_batches(self) -> Iterator[Batch]:
        whole = self.training_batch(self._current_draw())
        shuffle = torch.randperm(whole[INTERIOR].shape[0], generator=self._generator("shuffle", self._epoch()))
        for chosen in shuffle.split(self.batch_size or self.num_interior):
            yield {**whole, INTERIOR: whole[INTERIOR][chosen]}

    def _epoch(self) -> int:
        if self.trainer is None:
            return 0
        # Counted in batches, so that a resumed run draws what the uninterrupted one would: `current_epoch` is ahead by
        # one after a checkpoint that was saved when `fit` had ended.
        return (self.trainer.fit_loop.total_batch_idx + 1) // int(self.trainer.num_training_batches)

    def _current_draw(self) -> int:
        return self._epoch() // self.resample_every_n_epochs if self.resample_every_n_epochs else 0

    def _draw(self, draw: int) -> Batch:
        problem = self.problem
        num_interior = self.num_training_points
        # The draws of guidance lie beyond those of the schedule.
        generator = self._generator("points", draw + _ADDED_DRAWS * self._added[1])
        if self.sampling == "grid":
            grid = self._grid()
            if self.num_interior > grid.shape[0]:
                raise ValueError(
                    f"`num_interior` is {self.num_interior}, but the interior of the collocation grid has only "
                    f'{grid.shape[0]} points: ask for fewer, or use `sampling="sobol"`.'
                )
            chosen = torch.randperm(grid.shape[0], generator=generator)[:num_interior]
            points = {INTERIOR: grid[chosen]}
            for condition in problem.conditions:
                points[condition.name] = condition.grid(problem.collocation_grid)
            return points
        sampler = (
            uniform_sampler(generator)
            if self.sampling == "uniform"
            else sobol_sampler(int(torch.randint(2**31, (1,), generator=generator)))
        )
        points = {INTERIOR: problem.points(num_interior, sampler)}
        for condition in problem.conditions:
            points[condition.name] = condition.sample(self.num_condition, sampler)
        return points

    def _grid(self) -> Tensor:
        return self.problem.interior_grid()

    def _generator(self, purpose: Literal["points", "shuffle"], index: int) -> torch.Generator:
        entropy = np.random.SeedSequence([self.seed, index, int(purpose == "shuffle")]).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(entropy[0]) >> 1)


class Steps:
    """A number of batches that are made when they are asked for, as Lightning takes them in place of a DataLoader.

    Args:
        num_steps: how many there are.
        batches: starts a pass over them.
    """

    def __init__(self, num_steps: int, batches: Callable[[], Iterator[Any]]) -> None:
        self._num_steps = num_steps
        self._batches = batches

    def __len__(self) -> int:
        """Return the number of batches in a pass."""
        return self._num_steps

    def __iter__(self) -> Iterator[Any]:
        """Start a pass."""
        return self._batches()


def _in_default_dtype(batch: Batch) -> Batch:
    return {name: points.to(torch.get_default_dtype()) for name, points in batch.items()}
