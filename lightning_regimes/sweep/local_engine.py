"""Cells in processes of this machine."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait

from lightning_regimes.sweep.engine import Result, Row
from lightning_regimes.sweep.trial import Trial
from lightning_regimes.sweep.worker_process import WorkerProcess


class LocalEngine:
    """Runs cells in a pool of spawned processes that are used again.

    A cell whose worker is lost (killed, out of memory, a crash of a library) is tried again in a new one; a cell that
    raises is not, as it would raise again.

    Args:
        workers: processes; by default one for each core that this process may use.
        threads_per_worker: threads of each; 1 makes rounding, and with it a table, independent of the machine's load.
        max_attempts: how often a cell whose worker is lost is started before it counts as failed.
        on_lost_worker: told in one sentence of each worker that is lost.

    Raises:
        ValueError: a number is below 1.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        threads_per_worker: int = 1,
        max_attempts: int = 3,
        on_lost_worker: Callable[[str], None] | None = None,
    ) -> None:
        workers = usable_cores() if workers is None else workers
        for name, value in (
            ("workers", workers),
            ("threads_per_worker", threads_per_worker),
            ("max_attempts", max_attempts),
        ):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        self.workers = workers
        self.threads_per_worker = threads_per_worker
        self.max_attempts = max_attempts
        self.on_lost_worker = on_lost_worker or (lambda message: None)

    def map(self, function: Callable[[Trial], Row], trials: Sequence[Trial]) -> Iterator[Result]:
        """Yield the result of each trial as it ends; ends all workers however the iteration ends."""
        waiting = deque(trials)
        attempts: dict[str, int] = {}
        pool: list[WorkerProcess] = []
        try:
            while waiting or any(worker.trial for worker in pool):
                while waiting and len(pool) < self.workers:
                    pool.append(WorkerProcess(function, num_threads=self.threads_per_worker))
                for worker in pool:
                    if worker.trial is None and waiting:
                        trial = waiting.popleft()
                        attempts[trial.key] = attempts.get(trial.key, 0) + 1
                        worker.start(trial)
                busy = {worker.connection: worker for worker in pool if worker.trial}
                for connection in wait(list(busy)):
                    worker = busy[connection]  # type: ignore[index]
                    result = self._result(worker, attempts)
                    if result is None:
                        assert worker.trial is not None
                        waiting.append(worker.trial)
                    if worker.trial is not None:
                        worker.stop()
                        pool.remove(worker)
                    if result is not None:
                        yield result
        finally:
            for worker in pool:
                worker.stop()

    def _result(self, worker: WorkerProcess, attempts: dict[str, int]) -> Result | None:
        """The result of a worker's trial; None if it is to be tried again. A lost worker keeps its trial."""
        trial = worker.trial
        assert trial is not None
        answer = worker.answer()
        if answer is not None:
            worker.trial = None
            return Result(trial, *answer, attempts=attempts[trial.key])
        end = worker.how_it_ended()
        again = attempts[trial.key] < self.max_attempts
        what = "it is tried again" if again else f"given up after {attempts[trial.key]} attempts"
        self.on_lost_worker(f"worker {worker.pid} was lost ({end}) while it ran {trial.name}; {what}.")
        return None if again else Result(trial, None, f"the worker was lost ({end})", attempts=attempts[trial.key])


def usable_cores() -> int:
    """Number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
