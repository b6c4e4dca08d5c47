"""Tables that grow over a run, with a column that says at which step each row was measured."""

from typing import Any

from lightning_regimes.recording.table import Table

# Every increment names all those before it: beyond some dozens, rows wait until this share of the table is new.
_SHARE_OF_AN_INCREMENT = 0.02


class GrowingTables:
    """The incremental W&B tables of a run, one a key."""

    def __init__(self) -> None:
        self._tables: dict[str, Any] = {}
        self._pending: dict[str, int] = {}

    def grow(self, key: str, step: int, table: Table) -> Any | None:
        """Append the rows of a table under the step at which it was measured.

        Returns:
            The W&B table to log, or None while the rows wait to be logged together with later ones.
        """
        import wandb

        columns: list[str | int] = ["step", *table.columns]
        # A table of other columns is another table.
        if key not in self._tables or self._tables[key].columns != columns:
            self._tables[key] = wandb.Table(columns=columns, log_mode="INCREMENTAL", allow_mixed_types=True)
            self._pending[key] = 0
        grown = self._tables[key]
        for row in table.rows:
            grown.add_data(step, *row)
        self._pending[key] += len(table.rows)
        if not table.rows or self._pending[key] < _SHARE_OF_AN_INCREMENT * len(grown.data):
            return None
        self._pending[key] = 0
        return grown
