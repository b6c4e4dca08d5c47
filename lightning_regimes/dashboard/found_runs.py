"""Which runs and sweeps are meant by the paths that somebody gives, and where their common report goes."""

import os
from collections.abc import Sequence
from pathlib import Path

from lightning_regimes.recording import has_records
from lightning_regimes.recording.journal import RECORDS_FILE
from lightning_regimes.sweep.recorded_sweep import is_sweep

REPORT_FILE = "report.html"
"""Name of the report, where no other is given."""

# ``runs/<experiment>/<run>`` and ``lightning_logs/<run>``.
_DEPTH_OF_RUNS = 2


def found_runs(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The directories of runs and sweeps among paths and in the folders among them.

    A path that is neither a run nor a sweep stands for the runs one level below it, or else two. One that holds
    nothing stays as it is, so that whoever reads it can say so. Reports that a pattern such as ``runs/*`` finds are
    passed over.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.name == REPORT_FILE and path.is_file():
            continue
        found += [path] if is_sweep(path) or has_records(path) else _runs_below(path) or [path]
    return found


def common_report(paths: Sequence[str | os.PathLike[str]], shown: Sequence[Path]) -> Path:
    """Where a report goes by default: into the one folder that is given, or into the one that holds all that is shown.

    The report of several runs thus never takes the place of that of one of them.
    """
    if len(paths) == 1:
        return Path(paths[0]) / REPORT_FILE
    if len(shown) == 1:
        return shown[0] / REPORT_FILE
    folder = Path(os.path.commonpath([path.absolute().parent for path in shown]))
    here = Path.cwd()
    return (folder.relative_to(here) if folder.is_relative_to(here) else folder) / REPORT_FILE


def _runs_below(path: Path) -> list[Path]:
    for depth in range(1, _DEPTH_OF_RUNS + 1):
        if records := sorted(path.glob("/".join(["*"] * depth + [str(RECORDS_FILE)]))):
            return [record.parent.parent for record in records]
    return []
