"""What the workers of these tests run: functions that a spawned process can import."""

import gc
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lightning_regimes.sweep import Trial


def square(trial: Trial) -> dict[str, Any]:
    return {"values": {"square": trial.parameters["n"] ** 2}, "pid": os.getpid()}


def fail_on_odd(trial: Trial) -> dict[str, Any]:
    if trial.parameters["n"] % 2:
        raise ValueError(f"{trial.parameters['n']} is odd")
    return square(trial)


def leave_on_odd(trial: Trial) -> dict[str, Any]:
    if trial.parameters["n"] % 2:
        raise SystemExit(3)
    return square(trial)


class KilledOnce:
    """Kills its own process the first time that it runs one of the trials, in which it leaves a mark."""

    def __init__(self, folder: Path, n: int, *, always: bool = False) -> None:
        self.folder = folder
        self.n = n
        self.always = always

    def __call__(self, trial: Trial) -> dict[str, Any]:
        mark = self.folder / "killed"
        if trial.parameters["n"] == self.n and (self.always or not mark.exists()):
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return square(trial)


class CutOff:
    """A row that kills its own process while it is being sent, the first time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, trial: Trial) -> dict[str, Any]:
        mark = self.folder / "killed"
        if not mark.exists():
            mark.touch()
            (connection,) = [entry for entry in gc.get_objects() if isinstance(entry, Connection)]
            os.write(connection.fileno(), (1000).to_bytes(4, "big") + b"half a row")
            os.kill(os.getpid(), signal.SIGKILL)
        return square(trial)


class Marked:
    """Leaves a line for every start, and takes long enough for its sweep to be killed."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds

    def __call__(self, trial: Trial) -> dict[str, Any]:
        with (self.folder / f"{trial.parameters['n']}.starts").open("a") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(self.seconds)
        return {"values": square(trial)["values"]}
