"""A sweep as its directory tells it, finished or not."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from lightning_regimes.sweep.execution import FAILED, FINISHED
from lightning_regimes.sweep.ledger import Ledger

if TYPE_CHECKING:
    from lightning_regimes.regimes import PhaseDiagram
    from lightning_regimes.sweep.engine import Row
    from lightning_regimes.sweep.specification import SweepSpecification
    from lightning_regimes.sweep.trial import Trial

DESCRIPTION_FILE = "sweep.json"
"""What the cells of the directory are, beside the table."""


class RecordedSweep:
    """Read-only access to the directory of a sweep.

    Args:
        directory: of the sweep.

    Raises:
        FileNotFoundError: the directory holds no sweep.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)
        if not is_sweep(directory):
            raise FileNotFoundError(f"{str(self.directory)!r} holds no sweep ({DESCRIPTION_FILE}).")
        description = json.loads((self.directory / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        self.name: str = description["name"]
        self.x: str = description["x"]
        self.y: str | None = description["y"]
        self.seed: str | None = description["seed"]
        self._keys: list[str] = description["keys"]
        rows = Ledger(directory).rows()
        self.rows: list[Row] = [rows[key] for key in self._keys if key in rows]
        self._pairs: list[Row] = [rows[key] for key in description.get("pairs", ()) if key in rows]

    @property
    def num_cells(self) -> int:
        """How many cells the sweep has, run or not."""
        return len(self._keys)

    @property
    def finished(self) -> list[Row]:
        """The rows of the cells that ended well."""
        return [row for row in self.rows if row["status"] == FINISHED]

    @property
    def failed(self) -> list[Row]:
        """The rows of the cells that didn't."""
        return [row for row in self.rows if row["status"] == FAILED]

    @property
    def pairs(self) -> list[Row]:
        """The rows of the comparisons of two seeds that ended well."""
        return [row for row in self._pairs if row["status"] == FINISHED]

    @property
    def failed_pairs(self) -> list[Row]:
        """The rows of the comparisons that didn't."""
        return [row for row in self._pairs if row["status"] == FAILED]

    def diagrams(self) -> dict[str, PhaseDiagram]:
        """Return the phase diagrams of the finished cells, one for each combination of further parameters.

        Returns:
            The diagrams under what tells them apart, ``""`` where there is one only.
        """
        from lightning_regimes.regimes import PhaseDiagram, RegimeThresholds

        groups: dict[str, list[Row]] = {}
        for row in self.finished:
            groups.setdefault(self._further(row), []).append(row)
        diagrams = {}
        for name, rows in groups.items():
            limits: dict[str, float] = next((row["thresholds"] for row in rows if row.get("thresholds")), {})
            diagrams[name] = PhaseDiagram(
                [{**tidy(row), **self._of_pairs(row["key"])} for row in rows],
                x=self.x,
                y=self.y,
                seed=self.seed,
                thresholds=RegimeThresholds(**{key: limits[key] for key in ("fit", "error") if key in limits}),
            )
        return diagrams

    def _of_pairs(self, key: str) -> dict[str, float]:
        """What comparisons with other seeds found about a run, averaged: the mean over a cell is that of its pairs."""
        values = [tidy(pair) for pair in self.pairs if key in pair["pair"]]
        keys = sorted({name for pair in self.pairs if key in pair["pair"] for name in pair["values"]})
        return {name: fmean(entry[name] for entry in values if name in entry) for name in keys}

    def _further(self, row: Row) -> str:
        parameters = {k: v for k, v in row["parameters"].items() if k not in (self.x, self.y, self.seed)}
        varied = {k: v for k, v in parameters.items() if any(r["parameters"].get(k) != v for r in self.finished)}
        return ", ".join(f"{name} = {value}" for name, value in varied.items())


def describe_sweep(
    specification: SweepSpecification,
    trials: Sequence[Trial],
    directory: str | os.PathLike[str],
    *,
    pairs: Sequence[Trial] = (),
) -> None:
    """Write down what the cells and pairs of a directory are, so that a report needs no other file."""
    path = Path(directory) / DESCRIPTION_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    description = {
        "name": specification.name,
        "x": specification.x,
        "y": specification.y,
        "seed": specification.seed,
        "keys": [trial.key for trial in trials],
        "pairs": [pair.key for pair in pairs],
    }
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(description, indent=1), encoding="utf-8")
    temporary.replace(path)


def is_sweep(directory: str | os.PathLike[str]) -> bool:
    """Whether a directory is that of a sweep."""
    return (Path(directory) / DESCRIPTION_FILE).is_file()


def tidy(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with one entry a column: parameters by their names, measurements by their keys."""
    numbers = {key: _value(value) for key, value in row.get("values", {}).items()}
    parameters = {name: _axis_value(value) for name, value in row["parameters"].items()}
    return {**parameters, **numbers, "seconds": row.get("seconds"), "run": row.get("run")}


def _axis_value(value: Any) -> Any:
    """A value that can stand at an axis: the number of ``[64]``, the name of what is no number or of a file."""
    if isinstance(value, list) and len(value) == 1:
        return value[0]
    if isinstance(value, str) and Path(value).suffix in (".yaml", ".yml"):
        return Path(value).stem
    return str(value) if isinstance(value, list | dict) else value


def _value(value: Any) -> Any:
    # Infinities and NaN are strings in JSON.
    return float(value) if value in ("nan", "inf", "-inf") else value
