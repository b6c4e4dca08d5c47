"""A process that runs one cell after another, so that imports are paid for once."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

from lightning_regimes.sweep.trial import Trial

_CONTEXT = multiprocessing.get_context("spawn")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerProcess:
    """A spawned process with a pipe; it ends when the process that started it does, however that ends.

    Args:
        function: what it runs on each trial.
        num_threads: of its computations.
    """

    def __init__(self, function: Callable[[Trial], dict[str, Any]], *, num_threads: int) -> None:
        self.trial: Trial | None = None
        self.connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_run, args=(function, theirs), name="sweep worker")
        with _thread_variables(num_threads):
            self._process.start()
        # Ours alone from now on, so that the end of the worker is the end of the pipe.
        theirs.close()

    @property
    def pid(self) -> int | None:
        """Number of the process."""
        return self._process.pid

    def start(self, trial: Trial) -> None:
        """Hand it a trial."""
        self.trial = trial
        # A worker that has just died is noticed where its answer is awaited.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(trial)

    def answer(self) -> tuple[dict[str, Any] | None, str | None] | None:
        """The row or the error of the trial that it was handed; None if the process is gone."""
        try:
            answer: tuple[dict[str, Any] | None, str | None] = self.connection.recv()
        except (EOFError, OSError):  # the latter where it was killed in the middle of its answer
            return None
        return answer

    def how_it_ended(self) -> str:
        """Say how a process that is gone ended."""
        self._process.join(timeout=5)
        code = self._process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit status {code}"

    def stop(self) -> None:
        """End the process, at once if it is at work."""
        self.connection.close()
        if self.trial is None:
            self._process.join(timeout=5)
        # Not `terminate`: Lightning waits for the end of a step before it heeds that.
        self._process.kill()
        self._process.join()


def _run(function: Callable[[Trial], dict[str, Any]], connection: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C reaches every process of a terminal; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            trial = connection.recv()
        except EOFError:
            return
        answer: tuple[dict[str, Any] | None, str | None]
        try:
            answer = function(trial), None
        # A command may also leave by `sys.exit`; the next cell is none of its business.
        except (Exception, SystemExit) as error:
            answer = None, f"{type(error).__name__}: {' '.join(str(error).split())}"
        connection.send(answer)


def _end_with_parent() -> None:
    """End this process as soon as its parent is gone: nobody would write down what it finds."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextlib.contextmanager
def _thread_variables(num_threads: int) -> Iterator[None]:
    # The libraries read these when they are loaded, which is before any code of ours runs in the worker.
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(num_threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
