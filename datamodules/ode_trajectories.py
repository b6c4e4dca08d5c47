"""Trajectories of a system of ordinary differential equations, whole or in segments."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import lightning as L
import numpy as np
import torch
from torch import Tensor

from lightning_regimes.datamodules.collocation import Steps
from lightning_regimes.pde import ODESystem, sobol_sampler

Batch: TypeAlias = dict[str, Tensor]

# Of the scrambled Sobol points where trajectories start that no training run sees.
_HELDOUT_SEEDS = {"val": 20_240_301, "test": 20_240_302}


class ODETrajectories(L.LightningDataModule):
    """Solutions of an initial value problem: a batch is ``{"times": (N, K + 1), "states": (N, K + 1, n)}``.

    Training trajectories run over ``horizon`` and are cut into segments of ``segment_length`` steps, each with times
    that count from its own start. All segments are one batch by default; an "epoch" is then ``steps_per_epoch`` times
    this batch. Validation has two loaders: segments cut in the same way from other trajectories, and these
    trajectories whole over ``rollout_horizon``. Test and prediction have whole trajectories, again from other initial
    states.

    Initial states are scrambled Sobol points in the system's ``start_box``, unless they are given. Those of validation
    and test do not depend on ``seed``, and carry no noise. Trajectories are solved once, in float64.

    Args:
        system: the equations; by default the ``system`` of the module that is being trained.
        num_trajectories: to train on, from initial states that are drawn.
        initial_states: those to train from instead, each a list of ``n`` numbers.
        horizon: time that training trajectories last; by default the system's ``duration``.
        step: time between two states, a divisor of both horizons.
        segment_length: steps in a segment; None keeps trajectories whole.
        stride: steps from the start of one segment to the next; by default ``segment_length``, so that they touch.
        rollout_horizon: time that validation and test trajectories last; by default the system's ``duration``.
        num_heldout: trajectories of validation, and of test.
        noise: standard deviation of Gaussian noise on training states, in units of each state's own deviation over the
            training trajectories.
        jitter: makes times irregular, by up to this part of ``step``; 0 to below 0.5.
        batch_size: segments a step, drawn anew in each epoch; None takes all.
        steps_per_epoch: full-batch steps that make an epoch; unused with ``batch_size``.
        seed: of initial states, noise, irregular times and the order of batches.

    Raises:
        ValueError: a number is out of range, or a segment is longer than the horizon.
    """

    def __init__(
        self,
        system: ODESystem | None = None,
        *,
        num_trajectories: int = 8,
        initial_states: Sequence[Sequence[float]] | None = None,
        horizon: float | None = None,
        step: float = 0.05,
        segment_length: int | None = 10,
        stride: int | None = None,
        rollout_horizon: float | None = None,
        num_heldout: int = 8,
        noise: float = 0.0,
        jitter: float = 0.0,
        batch_size: int | None = None,
        steps_per_epoch: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, count in {
            "num_trajectories": num_trajectories,
            "segment_length": segment_length,
            "stride": stride,
            "num_heldout": num_heldout,
            "batch_size": batch_size,
            "steps_per_epoch": steps_per_epoch,
        }.items():
            if count is not None and count < 1:
                raise ValueError(f"`{name}` must be at least 1, got {count}.")
        for name, duration in {"horizon": horizon, "step": step, "rollout_horizon": rollout_horizon}.items():
            if duration is not None and not duration > 0:
                raise ValueError(f"`{name}` must be positive, got {duration}.")
        if initial_states is not None and not initial_states:
            raise ValueError("`initial_states` must hold at least one state, got none.")
        if not noise >= 0:
            raise ValueError(f"`noise` must not be negative, got {noise}.")
        if not 0 <= jitter < 0.5:
            raise ValueError(f"`jitter` must lie in [0, 0.5), got {jitter}: times would not increase.")
        self.save_hyperparameters(ignore=["system"])
        self._system = system
        self.num_trajectories = num_trajectories
        self.initial_states = initial_states
        self.horizon = horizon
        self.step = step
        self.segment_length = segment_length
        self.stride = stride
        self.rollout_horizon = rollout_horizon
        self.num_heldout = num_heldout
        self.noise = noise
        self.jitter = jitter
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self._made: dict[tuple[str, torch.dtype], Batch] = {}

    @property
    def system(self) -> ODESystem:
        """The equations: those given, or those of the module that is being trained.

        Raises:
            RuntimeError: there are neither.
        """
        if self._system is not None:
            return self._system
        module = getattr(self.trainer, "lightning_module", None)
        system = getattr(module, "system", None)
        if not isinstance(system, ODESystem):
            raise RuntimeError(
                "ODETrajectories was given no `system`, and there is no module with one: pass `system=`, or train a "
                "NeuralODE that has one."
            )
        return system

    @property
    def full_batch(self) -> bool:
        """Whether each step sees all training segments."""
        return self.batch_size is None

    def training_batch(self) -> Batch:
        """Return all training segments, in the default dtype."""
        return self._batch("train", self._training_segments)

    def heldout_batch(self) -> Batch:
        """Return segments like those of training, from the validation trajectories, without noise."""

        def segments() -> Batch:
            times = self._times(self._horizon(self.horizon, "horizon"), "val")
            return self._segments(times, self.system.solve(self._initial("val"), times))

        return self._batch("heldout", segments)

    def rollout_batch(self, stage: Literal["val", "test"] = "test") -> Batch:
        """Return whole trajectories over ``rollout_horizon``, from initial states that training never sees."""

        def trajectories() -> Batch:
            times = self._times(self._horizon(self.rollout_horizon, "rollout_horizon"), stage)
            states = self.system.solve(self._initial(stage), times)
            return {"times": times.expand(len(states), -1), "states": states}

        return self._batch(stage, trajectories)

    def train_dataloader(self) -> Steps:
        """Return the training batches of an epoch."""
        if self.batch_size is None:
            return Steps(self.steps_per_epoch, self._full_batches)
        num_segments = len(self.training_batch()["times"])
        return Steps(-(-num_segments // self.batch_size), self._mini_batches)

    def val_dataloader(self) -> list[Steps]:
        """Return held-out segments, and whole trajectories."""
        return [Steps(1, lambda: iter([self.heldout_batch()])), Steps(1, lambda: iter([self.rollout_batch("val")]))]

    def test_dataloader(self) -> Steps:
        """Return whole trajectories in one batch."""
        return Steps(1, lambda: iter([self.rollout_batch("test")]))

    def predict_dataloader(self) -> Steps:
        """Return the trajectories of the test."""
        return self.test_dataloader()

    def _batch(self, name: str, make: Callable[[], Batch]) -> Batch:
        key = (name, torch.get_default_dtype())
        if key not in self._made:
            with torch.inference_mode(False):
                self._made[key] = {part: entry.to(key[1]).contiguous() for part, entry in make().items()}
        return self._made[key]

    def _training_segments(self) -> Batch:
        times = self._times(self._horizon(self.horizon, "horizon"), "train")
        states = self.system.solve(self._initial("train"), times)
        if self.noise > 0:
            generator = torch.Generator().manual_seed(self._entropy("noise"))
            deviation = states.reshape(-1, states.shape[-1]).std(dim=0)
            normal = torch.randn(states.shape, generator=generator, dtype=states.dtype)
            states = states + self.noise * deviation * normal
        return self._segments(times, states)

    def _segments(self, times: Tensor, states: Tensor) -> Batch:
        """Cut trajectories ``(T,)``, ``(N, T, n)`` into segments, those of a trajectory one after the other."""
        num_steps = len(times) - 1
        length = self.segment_length or num_steps
        if length > num_steps:
            raise ValueError(
                f"`segment_length` is {length}, but the horizon has only {num_steps} steps of {self.step:g}: ask for "
                "shorter segments, or a longer horizon."
            )
        stride = self.stride or length
        cut = states.unfold(1, length + 1, stride).transpose(2, 3)
        at = times.unfold(0, length + 1, stride)
        # Regular times are the same in all segments, without the rounding of a difference.
        at = times[: length + 1].expand_as(at) if self.jitter == 0 else at - at[:, :1]
        return {"times": at.repeat(len(states), 1), "states": cut.reshape(-1, length + 1, states.shape[-1])}

    def _times(self, horizon: float, stage: str) -> Tensor:
        times = self.step * torch.arange(round(horizon / self.step) + 1, dtype=torch.float64)
        if self.jitter > 0:
            # Irregular times of validation and test are as independent of the seed as their initial states.
            seed = self._entropy("times") if stage == "train" else _HELDOUT_SEEDS[stage]
            uniform = torch.rand(len(times), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            times[1:] += self.jitter * self.step * (2 * uniform[1:] - 1)
        return times

    def _horizon(self, given: float | None, name: str) -> float:
        horizon = given
        if horizon is None:  # whole steps of a duration such as 4π
            horizon = self.step * round(self.system.duration / self.step)
        if round(horizon / self.step) < 1 or abs(round(horizon / self.step) * self.step - horizon) > 1e-6 * horizon:
            raise ValueError(f"`{name}` must be a multiple of `step`={self.step:g}, got {horizon:g}.")
        return horizon

    def _initial(self, stage: str) -> Tensor:
        if stage == "train" and self.initial_states is not None:
            return torch.tensor([list(state) for state in self.initial_states], dtype=torch.float64)
        if stage == "train":
            return self.system.initial_states(self.num_trajectories, sobol_sampler(self._entropy("initial")))
        return self.system.initial_states(self.num_heldout, sobol_sampler(_HELDOUT_SEEDS[stage]))

    def _full_batches(self) -> Iterator[Batch]:
        return itertools.repeat(self.training_batch(), self.steps_per_epoch)

    def _mini_batches(self) -> Iterator[Batch]:
        whole = self.training_batch()
        generator = torch.Generator().manual_seed(self._entropy("order", self._epoch()))
        order = torch.randperm(len(whole["times"]), generator=generator)
        for chosen in order.split(self.batch_size or len(order)):
            yield {name: entry[chosen] for name, entry in whole.items()}

    def _epoch(self) -> int:
        # Counted in batches, so that a resumed run draws what the uninterrupted one would.
        if self.trainer is None:
            return 0
        return (self.trainer.fit_loop.total_batch_idx + 1) // int(self.trainer.num_training_batches)

    def _entropy(self, purpose: Literal["initial", "times", "noise", "order"], index: int = 0) -> int:
        number = ("initial", "times", "noise", "order").index(purpose)
        return int(np.random.SeedSequence([self.seed, number, index]).generate_state(1, np.uint64)[0]) >> 1
