"""What one measurement found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_regimes.recording.stored_arrays import StoredArrays
from lightning_regimes.recording.table import Table
from lightning_regimes.recording.vocabulary import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Record:
    """One measurement of one diagnostic, under full keys such as ``"hessian/lambda_1"``.

    Attributes:
        diagnostic: Name of the diagnostic, the part of the keys before the slash.
        step: The x-value under which Lightning itself would log at that moment (:func:`logged_step`).
        global_step: Optimizer steps taken, ``trainer.global_step``.
        epoch: ``trainer.current_epoch``.
        scalars: Numbers; NaN and infinities are allowed.
        text: Strings.
        arrays: Numeric arrays of any shape.
        context: What explains the numbers (thresholds, reasons, sources): anything that JSON can hold.
        figures: Functions that draw a picture; they run only where a logger can show it and are never stored.
        histograms: Keys of ``arrays`` that loggers show as histograms.
        tables: What reads best as rows and columns.

    Raises:
        ValueError: If a key is not in the vocabulary, an array is not numeric, a histogram names no array, or a row
            of a table has not one entry a column.
        TypeError: If a scalar is not a number.
    """

    diagnostic: str
    step: int
    global_step: int
    epoch: int
    scalars: Mapping[str, float] = field(default_factory=dict)
    text: Mapping[str, str] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    context: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, "Callable[[], Figure]"] = field(default_factory=dict)
    histograms: tuple[str, ...] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in (*self.scalars, *self.text, *self.arrays, *self.figures, *self.tables):
            describe(key)
        for key in self.histograms:
            if key not in self.arrays:
                raise ValueError(f"histograms names {key!r}, which is not among the record's arrays {[*self.arrays]}.")
        object.__setattr__(self, "scalars", {key: _number(key, value) for key, value in self.scalars.items()})
        if not isinstance(self.arrays, StoredArrays):
            object.__setattr__(self, "arrays", {key: _array(key, value) for key, value in self.arrays.items()})


def _number(key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"The scalar {key!r} must be a number, got {type(value).__name__}.") from error


def _array(key: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise ValueError(f"The array {key!r} must be numeric, got dtype {array.dtype}.")
    return array
