"""Rows under named columns."""

from collections.abc import Sequence
from dataclasses import dataclass

Entry = str | int | float | bool | None


@dataclass(frozen=True)
class Table:
    """A small table, as loggers show it.

    Attributes:
        columns: Names of the columns.
        rows: One entry a column in each.

    Raises:
        ValueError: If a row has another length.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Entry]]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"A row of the table has {len(row)} entries for the columns {list(self.columns)}.")

    def markdown(self) -> str:
        """The table in Markdown, numbers to four digits."""
        lines = [self.columns, ["---"] * len(self.columns), *([_short(entry) for entry in row] for row in self.rows)]
        return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _short(entry: Entry) -> str:
    return f"{entry:.4g}" if isinstance(entry, float) else "" if entry is None else str(entry)
