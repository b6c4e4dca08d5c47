"""Cells on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lightning_regimes.sweep.engine import Result, Row
from lightning_regimes.sweep.trial import Trial


class RayEngine:
    """Runs each cell as a task of Ray, on a cluster or on this machine.

    Run directories are written where the task runs: all nodes need the sweep's directory under the same path.

    Args:
        address: of a running cluster; by default the one that ``RAY_ADDRESS`` names, or a new one on this machine.
        threads_per_worker: cores that a cell takes.
        gpus_per_worker: GPUs that a cell takes.
        max_attempts: how often a cell whose worker is lost is started.

    Raises:
        ModuleNotFoundError: Ray isn't installed.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        threads_per_worker: int = 1,
        gpus_per_worker: float = 0.0,
        max_attempts: int = 3,
    ) -> None:
        # Before the import: Ray decides then whether it reports its use.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the engine 'ray' needs Ray, which is not installed: pip install 'lightning-regimes[cluster]'"
            ) from error
        self._ray: Any = ray
        self.address = address
        self.threads_per_worker = threads_per_worker
        self.gpus_per_worker = gpus_per_worker
        self.max_attempts = max_attempts

    def map(self, function: Callable[[Trial], Row], trials: Sequence[Trial]) -> Iterator[Result]:
        """Yield the result of each trial as it ends."""
        ray = self._ray
        started_here = not ray.is_initialized()
        if started_here:
            ray.init(address=self.address, log_to_driver=False, include_dashboard=False)
        try:
            task = ray.remote(
                num_cpus=self.threads_per_worker, num_gpus=self.gpus_per_worker, max_retries=self.max_attempts - 1
            )(_attempt)
            running = {task.remote(function, trial, self.threads_per_worker): trial for trial in trials}
            while running:
                (reference, *_), _ = ray.wait(list(running), num_returns=1)
                trial = running.pop(reference)
                try:
                    row, error = ray.get(reference)
                except ray.exceptions.RayError as lost:
                    row, error = None, f"the worker was lost ({type(lost).__name__})"
                yield Result(trial, row, error)
        finally:
            if started_here:
                ray.shutdown()


def _attempt(function: Callable[[Trial], Row], trial: Trial, num_threads: int) -> tuple[Row | None, str | None]:
    import torch

    torch.set_num_threads(num_threads)
    try:
        return function(trial), None
    except (Exception, SystemExit) as error:
        return None, f"{type(error).__name__}: {' '.join(str(error).split())}"
