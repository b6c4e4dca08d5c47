"""The phase diagram of a sweep: what the runs ended as, over two axes."""

from __future__ import annotations

import csv
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lightning_regimes.regimes.classification import Regime, RegimeThresholds, classify
from lightning_regimes.regimes.deceptive_curvature import deceptive_flatness, deceptive_sharpness
from lightning_regimes.regimes.load_temperature_phases import LoadTemperaturePhase, load_temperature_phases
from lightning_regimes.regimes.phase_boundary import PhaseBoundary, axis_positions, phase_boundary
from lightning_regimes.regimes.rank_correlation import RankCorrelation, number, rank_correlation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lightning_regimes.regimes.phase_diagram_figure import PhaseDiagramColours

LOSS = "regime/normalized_loss"
ERROR = "regime/test_error"
ESTIMATED_ERROR = "regime/estimated_error"
HELDOUT = "regime/normalized_heldout_loss"
CURVATURE = "hessian/lambda_1"
TRACE = "hessian/trace"
SMAD = "landscape/smad_merge_tree"
CONNECTIVITY = "connectivity/mode_connectivity"
SIMILARITY = "similarity/cka_mean"
SIMILARITY_OF_OUTPUTS = "similarity/cka_output"
REFERENCE_LOSS = "regime/reference_loss"

MAPPED = (
    LOSS,
    ERROR,
    ESTIMATED_ERROR,
    HELDOUT,
    CURVATURE,
    TRACE,
    SMAD,
    CONNECTIVITY,
    SIMILARITY,
    SIMILARITY_OF_OUTPUTS,
)
"""The quantities of a phase diagram, as far as the runs recorded them."""

_GENERALIZATION = (ERROR, ESTIMATED_ERROR, HELDOUT)
_EVIDENCE = (LOSS, *_GENERALIZATION)
_GEOMETRIC = (*_EVIDENCE, CURVATURE, TRACE)


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """Runs over two parameters, averaged over seeds, with the boundaries between their regimes.

    Maps have the shape (values of y, values of x). Over the seeds of a cell, loss, errors and curvature are averaged
    geometrically as long as they are positive everywhere in the sweep, all others arithmetically. A loss or an error
    that isn't a number is that of a diverged run and counts as infinite; other numbers that aren't finite are left out.

    Attributes:
        rows: one mapping a run: the parameters by their names, and what was measured by the keys of the records.
        x: name of the parameter along the first axis, difficulty or load.
        y: name of the parameter along the second axis, data or temperature; None for a single row.
        seed: name of the parameter that repeats a cell.
        thresholds: that part the regimes.

    Raises:
        ValueError: there are no rows, or a row lacks a parameter.

    References:
        Wang et al. 2026, arXiv:2605.29153 (difficulty and data); Yang et al. 2021, arXiv:2107.11228 (load and
        temperature).
    """

    rows: Sequence[Mapping[str, Any]] = field(repr=False)
    x: str
    y: str | None = None
    seed: str | None = None
    thresholds: RegimeThresholds = field(default_factory=RegimeThresholds)

    def __post_init__(self) -> None:
        if not self.rows:
            raise ValueError("`rows` of a phase diagram must hold at least one run.")
        for name in (self.x, self.y):
            if name is not None and (lacking := sum(name not in row for row in self.rows)):
                raise ValueError(f"`rows` need the parameter {name!r}; {lacking} of {len(self.rows)} lack it.")

    # ------------------------------------------------------------------ axes and cells

    @cached_property
    def x_values(self) -> list[Any]:
        """Values along the first axis, numbers in increasing order."""
        return _axis([row[self.x] for row in self.rows])

    @cached_property
    def y_values(self) -> list[Any]:
        """Values along the second axis, numbers in increasing order; ``[None]`` without one."""
        return [None] if self.y is None else _axis([row[self.y] for row in self.rows])

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the maps."""
        return len(self.y_values), len(self.x_values)

    @property
    def quantities(self) -> list[str]:
        """Which of the mapped quantities the runs recorded."""
        return [key for key in MAPPED if any(math.isfinite(number(row.get(key))) for row in self.rows)]

    @property
    def error_key(self) -> str:
        """What tells whether fitted runs generalize: the error, else its estimate, else the held-out loss."""
        return next((key for key in _GENERALIZATION if key in self.quantities), ERROR)

    def runs(self, row: int, column: int) -> list[Mapping[str, Any]]:
        """Return the runs of one cell."""
        return self._cells.get((row, column), [])

    @cached_property
    def _cells(self) -> dict[tuple[int, int], list[Mapping[str, Any]]]:
        cells: dict[tuple[int, int], list[Mapping[str, Any]]] = {}
        for run in self.rows:
            row = 0 if self.y is None else self.y_values.index(run[self.y])
            cells.setdefault((row, self.x_values.index(run[self.x])), []).append(run)
        return cells

    # ------------------------------------------------------------------ maps

    def mean(self, key: str) -> npt.NDArray[np.float64]:
        """Return the map of a quantity, NaN where no run has it."""
        return self._averaged(lambda run: run.get(key), evidence=key in _EVIDENCE, positive=key in _GEOMETRIC)

    def _averaged(
        self, value_of: Callable[[Mapping[str, Any]], Any], *, evidence: bool, positive: bool
    ) -> npt.NDArray[np.float64]:
        values = [number(value_of(run)) for run in self.rows]
        finite = [value for value in values if math.isfinite(value)]
        geometric = positive and min(finite, default=0.0) > 0
        found = np.full(self.shape, np.nan)
        for cell, runs in self._cells.items():
            # Sorted, so that the sum doesn't depend on the order of the rows.
            numbers = np.sort([number(value) for run in runs if (value := value_of(run)) is not None])
            numbers = np.where(np.isnan(numbers), np.inf, numbers) if evidence else numbers[np.isfinite(numbers)]
            if numbers.size:
                found[cell] = np.exp(np.log(numbers).mean()) if geometric else numbers.mean()
        return found

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Map of the regime that most seeds ended in, -1 where there is none.

        Between regimes with as many seeds, the one of the averaged numbers is taken.
        """
        return self._vote[0]

    @cached_property
    def agreement(self) -> npt.NDArray[np.float64]:
        """Map of the share of seeds that ended in that regime, NaN where there is none."""
        return self._vote[1]

    @cached_property
    def _vote(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        labels, agreement = np.full(self.shape, -1), np.full(self.shape, np.nan)
        averaged = {key: self.mean(key) for key in _EVIDENCE}
        for cell, runs in self._cells.items():
            votes = Counter(label for run in runs if (label := regime_of(run, self.thresholds)) is not None)
            if not votes:
                continue
            most = max(votes.values())
            leading = sorted(label for label, count in votes.items() if count == most)
            means = {key: float(values[cell]) for key, values in averaged.items() if not np.isnan(values[cell])}
            of_means = regime_of(means, self.thresholds)
            labels[cell] = of_means if len(leading) > 1 and of_means in leading else leading[0]
            agreement[cell] = most / votes.total()
        return labels.astype(np.int64), agreement

    # ------------------------------------------------------------------ what the maps say

    def boundary(self, key: str | None = None) -> PhaseBoundary:
        """Return where the training loss, or another quantity of the rule, crosses its threshold.

        Args:
            key: the normalized loss by default.

        Raises:
            ValueError: the quantity has no threshold.
        """
        key = LOSS if key is None else key
        if key not in self._limits:
            raise ValueError(f"`key` must be one of {list(self._limits)}, which have thresholds; got {key!r}.")
        return self._boundary(key, self.mean(key), self._limits[key])

    def generalization_boundary(self) -> PhaseBoundary:
        """Return where runs cease to generalize, by the number that decides in each of them.

        That is its error, else an estimate of it, else its held-out loss, over the threshold of that number. The level
        is thus 1, and the boundary has no gaps where only some runs could be estimated.
        """

        def over_threshold(run: Mapping[str, Any]) -> float | None:
            deciding = next((key for key in _GENERALIZATION if run.get(key) is not None), None)
            return None if deciding is None else number(run[deciding]) / self._limits[deciding]

        values = self._averaged(over_threshold, evidence=True, positive=True)
        return self._boundary("generalization", values, 1.0)

    @property
    def _limits(self) -> dict[str, float]:
        fit, error = self.thresholds.fit, self.thresholds.error
        return {LOSS: fit, HELDOUT: fit, ERROR: error, ESTIMATED_ERROR: error}

    def _boundary(self, quantity: str, values: npt.NDArray[np.float64], level: float) -> PhaseBoundary:
        return phase_boundary(
            quantity,
            values,
            axis_positions(self.x_values),
            np.zeros(1) if self.y is None else axis_positions(self.y_values),
            level=level,
            perturbation=self.thresholds.perturbation,
        )

    def correlations(self) -> list[RankCorrelation]:
        """Return Spearman's correlation over the runs of loss and error with everything else that was mapped."""
        targets = [key for key in (LOSS, self.error_key) if key in self.quantities]
        others = [key for key in self.quantities if key not in _EVIDENCE]
        found = [rank_correlation(self.rows, *pair) for pair in [(o, t) for o in others for t in targets]]
        found.append(rank_correlation(self.rows, *targets) if len(targets) == 2 else None)
        return [correlation for correlation in found if correlation is not None]

    def deceptive_sharpness(self) -> npt.NDArray[np.bool_]:
        """Return which cells are well-trained though as sharp as failing ones."""
        return deceptive_sharpness(self.labels, self.mean(CURVATURE))

    def deceptive_flatness(self) -> npt.NDArray[np.bool_]:
        """Return which cells fail though as flat as well-trained ones."""
        return deceptive_flatness(self.labels, self.mean(CURVATURE))

    @property
    def has_phases(self) -> bool:
        """Whether the runs recorded what the phases of load and temperature are made of."""
        return CONNECTIVITY in self.quantities and bool(np.any(self.mean(CURVATURE) > 0))

    def load_temperature_phases(self, *, curvature: str = CURVATURE, **options: float) -> npt.NDArray[np.int64]:
        """Return the phases of load and temperature, which compare the solutions of two seeds.

        Mode connectivity counts in units of the reference loss where the runs recorded that, and solutions are alike
        by their outputs where these were compared, otherwise by the mean over the layers.

        Args:
            curvature: key of what counts as sharp.
            options: as for :func:`~lightning_regimes.regimes.load_temperature_phases`.

        Raises:
            ValueError: the runs recorded no mode connectivity.
        """
        if CONNECTIVITY not in self.quantities:
            raise ValueError(f"the phases of load and temperature need {CONNECTIVITY!r} between seeds in the rows.")
        compared = [key for key in (SIMILARITY_OF_OUTPUTS, SIMILARITY) if key in self.quantities]
        similarity = self.mean(compared[0]) if compared else None
        reference = self.mean(REFERENCE_LOSS)
        connectivity = self.mean(CONNECTIVITY) / np.where(np.isnan(reference), 1.0, reference)
        return load_temperature_phases(self.mean(curvature), connectivity, similarity, **options)

    # ------------------------------------------------------------------ output

    def table(self) -> list[dict[str, Any]]:
        """Return one row a cell: both parameters, how many runs, the regime and the averages."""
        means = {key: self.mean(key) for key in self.quantities}
        flags = {"deceptive_sharpness": self.deceptive_sharpness(), "deceptive_flatness": self.deceptive_flatness()}
        phases = self.load_temperature_phases() if self.has_phases else None
        found = []
        for i, j in sorted(self._cells):
            label = int(self.labels[i, j])
            row: dict[str, Any] = {self.x: self.x_values[j]} | ({} if self.y is None else {self.y: self.y_values[i]})
            row |= {"runs": len(self.runs(i, j)), "label": Regime(label).name if label >= 0 else None}
            row |= {"agreement": float(self.agreement[i, j])}
            row |= {key: float(values[i, j]) for key, values in means.items()}
            if phases is not None:
                row["phase"] = LoadTemperaturePhase(phases[i, j]).name if phases[i, j] >= 0 else None
            row |= {name: bool(flag[i, j]) for name, flag in flags.items()}
            found.append(row)
        return found

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write :meth:`table`, and return the path."""
        rows = self.table()
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({key: _short(value) for key, value in row.items()} for row in rows)
        return Path(path)

    def figure(
        self, *, keys: Sequence[str] | None = None, colours: PhaseDiagramColours | None = None, columns: int = 3
    ) -> Figure:
        """Draw the regimes and the maps of several quantities, with the boundaries.

        Args:
            keys: quantities; by default all that the runs recorded.
            colours: of the regimes and of what is written.
            columns: maps beside each other.
        """
        from lightning_regimes.regimes.phase_diagram_figure import draw_phase_diagram

        return draw_phase_diagram(self, keys=keys, colours=colours, columns=columns)


def regime_of(run: Mapping[str, Any], thresholds: RegimeThresholds) -> Regime | None:
    """Return the regime that a run recorded, or the one of its numbers; None where neither tells."""
    recorded = run.get("regime/label")
    if isinstance(recorded, str) and recorded in Regime.__members__:
        return Regime[recorded]
    loss, error, estimate, heldout = (None if run.get(key) is None else number(run[key]) for key in _EVIDENCE)
    if loss is None:
        return None
    evidence = {"error": error, "estimated_error": estimate, "heldout_loss": heldout}
    try:
        return classify(loss, reference_loss=1.0, thresholds=thresholds, **evidence).label
    except ValueError:
        return None  # fitted, and nothing says whether it generalizes


def _axis(values: Sequence[Any]) -> list[Any]:
    distinct = list(dict.fromkeys(values))
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in distinct):
        return sorted(distinct)
    return distinct


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.6g}"
    return int(value) if isinstance(value, bool) else value
