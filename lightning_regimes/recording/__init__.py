"""Records of measurements: what they hold, where they are kept, how they reach a logger."""

from lightning_regimes.recording.emission import emit, logged_step
from lightning_regimes.recording.journal import RECORDS_FILE, Journal, has_records, read_records
from lightning_regimes.recording.record import Record
from lightning_regimes.recording.run_directory import records_directory, run_directory
from lightning_regimes.recording.table import Table
from lightning_regimes.recording.vocabulary import VOCABULARY, Quantity, declare, describe

__all__ = [
    "RECORDS_FILE",
    "VOCABULARY",
    "Journal",
    "Quantity",
    "Record",
    "Table",
    "declare",
    "describe",
    "emit",
    "has_records",
    "logged_step",
    "read_records",
    "records_directory",
    "run_directory",
]
