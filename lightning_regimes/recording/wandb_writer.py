"""A record as W&B shows it: a row of values, growing tables, charts, alerts and artifacts."""

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from lightning_regimes.recording.record import Record
from lightning_regimes.recording.regime_alerts import RegimeAlerts
from lightning_regimes.recording.verdict_table import verdict_table
from lightning_regimes.recording.wandb_charts import SpectrumChart, density_histogram
from lightning_regimes.recording.wandb_summaries import MetricSummaries
from lightning_regimes.recording.wandb_surface import log_surface
from lightning_regimes.recording.wandb_tables import GrowingTables


class WandbWriter:
    """Writes the records of one run, and remembers what the next one builds on.

    Args:
        run: The W&B run, ``logger.experiment``.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._summaries = MetricSummaries(run)
        self._tables = GrowingTables()
        self._spectra = SpectrumChart()
        self._alerts = RegimeAlerts()

    def write(self, logger: Any, record: Record, pictures: Mapping[str, np.ndarray]) -> None:
        """Log a record through its logger, which adds its prefix and ``trainer/global_step``."""
        import wandb

        row: dict[str, Any] = {**record.scalars, **record.text}
        for key in record.histograms:
            values = record.arrays[key]
            if (values := values[np.isfinite(values)]).size:
                row[key] = wandb.Histogram(np_histogram=np.histogram(values, bins=min(64, max(values.size, 8))))
        for key, table in (*record.tables.items(), *verdict_table(record).items()):
            if (grown := self._tables.grow(key, record.step, table)) is not None:
                row[key] = grown
        row |= {**self._spectra.draw(record), **density_histogram(record)}
        row.update({key: wandb.Image(picture) for key, picture in pictures.items()})
        self._summaries.define(logger, record.scalars)
        if row:
            logger.log_metrics(row, step=record.step)
        log_surface(self._run, record)
        for alert in self._alerts.look(record):
            self._run.alert(title=alert.title, text=alert.text, level=alert.level)


_WRITERS: "WeakKeyDictionary[Any, WandbWriter]" = WeakKeyDictionary()


def write_wandb(logger: Any, record: Record, pictures: Mapping[str, np.ndarray]) -> None:
    """Log a record to the run of a W&B logger.

    Args:
        logger: A ``WandbLogger``, of either namespace.
        record: What was measured.
        pictures: The record's figures, (height, width, 4) images of bytes.
    """
    run = logger.experiment
    if run not in _WRITERS:
        _WRITERS[run] = WandbWriter(run)
    _WRITERS[run].write(logger, record, pictures)
