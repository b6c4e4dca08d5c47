"""The journal of a run: an append-only file of records that survives whatever ends the run."""

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from lightning_regimes.recording.record import Record
from lightning_regimes.recording.stored_arrays import StoredArrays
from lightning_regimes.recording.table import Table
from lightning_regimes.recording.vocabulary import describe

RECORDS_DIRECTORY = "regimes"
"""Folder of a run directory that holds the journal."""

RECORDS_FILE = Path(RECORDS_DIRECTORY) / "records.jsonl"
"""The journal, relative to the run directory."""

_RESUMED = "resumed_at_global_step"
_FINISHED = "finished_at_global_step"


class Journal:
    """Appends records to ``directory/records.jsonl``, one JSON object a line, arrays beside it as npz.

    Each append is one flushed and synced write, arrays first, so a line never names arrays that are not there and
    several journals of one process may share a directory. Nothing is ever removed or rewritten.

    Args:
        directory: Where to write; made at the first append.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    @property
    def path(self) -> Path:
        """The file of records."""
        return self.directory / RECORDS_FILE.name

    def append(self, record: Record) -> None:
        """Write a record; when this returns, it is on disk."""
        self.directory.mkdir(parents=True, exist_ok=True)
        line: dict[str, Any] = {
            "diagnostic": record.diagnostic,
            "step": record.step,
            "global_step": record.global_step,
            "epoch": record.epoch,
            "scalars": record.scalars,
            "text": record.text,
            "tables": {key: {"columns": table.columns, "rows": table.rows} for key, table in record.tables.items()},
            "context": record.context,
            "histograms": record.histograms,
        }
        if record.arrays:
            line["arrays"] = {"file": self._write_arrays(record), "keys": list(record.arrays)}
        self._write_line(line)

    def resume(self, global_step: int) -> None:
        """Declare that training stands at ``global_step``: what was recorded beyond it is superseded.

        Safe to call from every callback of a run, at any start of training: it appends a marker only where a record
        that still counts lies beyond ``global_step``, hence at most once per resumption, and never in a new run.

        Args:
            global_step: ``trainer.global_step`` when training starts. Records at exactly this step stay: they were
                taken before the checkpoint of this step was written.
        """
        if self.path.is_file() and any(line["global_step"] > global_step for line in _valid_lines(self.path)):
            self._write_line({_RESUMED: global_step})

    def finish(self, global_step: int) -> None:
        """Declare that training has come to its end; safe to call from every callback of a run."""
        if self.path.is_file() and not self.is_finished:
            self._write_line({_FINISHED: global_step})

    @property
    def is_finished(self) -> bool:
        """Whether training has come to its end, and has not been resumed since by way of superseding records."""
        finished = False
        for line in _lines(self.path) if self.path.is_file() else ():
            finished = _FINISHED in line or (finished and _RESUMED not in line)
        return finished

    def _write_arrays(self, record: Record) -> str:
        number = 0
        while (path := self.directory / f"{record.diagnostic}-{record.global_step}-{number}.npz").exists():
            number += 1
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        with temporary.open("wb") as file:
            np.savez(file, **record.arrays)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        return path.name

    def _write_line(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(_plain(line), allow_nan=False, ensure_ascii=False).encode() + b"\n"
        with self.path.open("ab+") as file:
            # A killed process may have left half a line; the next record must not become its tail.
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    data = b"\n" + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def has_records(run_directory: str | os.PathLike[str]) -> bool:
    """Whether a run directory holds a journal."""
    return (Path(run_directory) / RECORDS_FILE).is_file()


def read_records(run_directory: str | os.PathLike[str]) -> list[Record]:
    """Read what a run recorded, in the order of writing, without what a later resumption superseded.

    Lines that cannot be read (a killed process leaves half a line) and keys that the vocabulary does not know are
    skipped with a warning. Arrays stay on disk until they are looked at.

    Args:
        run_directory: The run directory, the one that holds ``regimes/records.jsonl``.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    directory = Path(run_directory) / RECORDS_DIRECTORY
    if not has_records(run_directory):
        raise FileNotFoundError(
            f"{os.fspath(run_directory)!r} holds no records ({RECORDS_FILE}); "
            "give the directory of a run that had a diagnostic among its callbacks."
        )
    return [_record(line, directory) for line in _valid_lines(directory / RECORDS_FILE.name)]


def _valid_lines(path: Path) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for line in _lines(path):
        if _FINISHED in line:
            continue
        if _RESUMED in line:
            lines = [earlier for earlier in lines if earlier["global_step"] <= line[_RESUMED]]
        else:
            lines.append(line)
    return lines


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict) and not line.keys().isdisjoint((_RESUMED, _FINISHED, "global_step")):
            yield line
        else:
            warnings.warn(f"{path}: line {number} is incomplete and was skipped.", stacklevel=4)


def _record(line: Mapping[str, Any], directory: Path) -> Record:
    arrays: Mapping[str, np.ndarray] = {}
    if stored := line.get("arrays"):
        path = directory / stored["file"]
        if path.is_file():
            arrays = StoredArrays(path, tuple(_known(stored["keys"])))
        else:
            warnings.warn(f"{path} is missing; its arrays {stored['keys']} were skipped.", stacklevel=3)
    return Record(
        diagnostic=line["diagnostic"],
        step=line["step"],
        global_step=line["global_step"],
        epoch=line["epoch"],
        scalars={key: float(line["scalars"][key]) for key in _known(line["scalars"])},
        text={key: line["text"][key] for key in _known(line["text"])},
        arrays=arrays,
        tables={key: Table(**line["tables"][key]) for key in _known(line.get("tables", {}))},
        context=line["context"],
        histograms=tuple(key for key in line["histograms"] if key in arrays),
    )


def _known(keys: Iterator[str] | Mapping[str, Any] | Sequence[str]) -> Iterator[str]:
    for key in keys:
        try:
            describe(key)
        except ValueError as error:
            warnings.warn(f"Skipped a recorded quantity: {error}", stacklevel=4)
        else:
            yield key


def _plain(value: Any) -> Any:
    """Reduce a value to what JSON holds; JSON has no NaN or infinity, so they become strings that float() reads."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(float(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # NumPy and torch, arrays and numbers alike
        return _plain(value.tolist())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(entry) for entry in value]
    return str(value)
