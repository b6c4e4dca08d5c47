"""The table of a sweep: a file to which each finished cell adds one line."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LEDGER_FILE = "cells.jsonl"
"""The table, in the directory of the sweep."""


class Ledger:
    """Rows of cells by the key of their trial; a line is whole or it doesn't count.

    Args:
        directory: of the sweep; made at the first append.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = Path(directory) / LEDGER_FILE

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row; when this returns, it is on disk.

        Raises:
            ValueError: the row has no "key".
        """
        if not isinstance(row.get("key"), str):
            raise ValueError(f"`row` needs the key of its trial, got the entries {sorted(row)}.")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        data = json.dumps(_plain(row), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        with self.path.open("ab+") as file:
            # A killed process may have left half a line; this row must not become its tail.
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    data = b"\n" + data
            file.write(data)
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the newest row of each key; a line that was cut off is skipped with a warning."""
        found: dict[str, dict[str, Any]] = {}
        if not self.path.is_file():
            return found
        for number, text in enumerate(self.path.read_bytes().split(b"\n"), start=1):
            if not text.strip():
                continue
            try:
                row = json.loads(text)
                found[row["key"]] = row
            except (ValueError, KeyError, TypeError):
                warnings.warn(f"{self.path}: line {number} is incomplete and was skipped.", stacklevel=2)
        return found


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity, so they become strings that float() reads."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
