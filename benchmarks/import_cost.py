"""What importing the callbacks costs beside importing Lightning, in CPU time of fresh processes, in one run."""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

STATEMENTS = {
    "import lightning": "import lightning",
    "import lightning_regimes.callbacks": "import lightning, lightning_regimes.callbacks",
    "... and every callback in it": (
        "import lightning, lightning_regimes.callbacks as c; [getattr(c, name) for name in c.__all__]"
    ),
}


def seconds(statement: str) -> float:
    """Return the CPU seconds of a fresh interpreter that runs a statement."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(repeats + 1):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    base = statistics.median(times["import lightning"][1:])
    for name, values in times.items():
        print(f"{name:36} {statistics.median(values[1:]) / base:.3f}")


if __name__ == "__main__":
    main()
