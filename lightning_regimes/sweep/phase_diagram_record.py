"""A phase diagram as a record, for loggers and the journal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_regimes.recording import Record, Table
from lightning_regimes.regimes import PhaseDiagram, Regime

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def phase_diagram_record(diagram: PhaseDiagram, *, name: str = "", num_failed: int = 0, seconds: float = 0.0) -> Record:
    """Return the cells as a table, the correlations as another, the maps as a picture, and the shares of the regimes.

    Args:
        diagram: of the cells that finished.
        name: what tells it from other diagrams of the same sweep.
        num_failed: cells that didn't.
        seconds: time of all cells together.
    """

    def draw() -> Figure:
        return diagram.figure()

    cells = diagram.table()
    labels = diagram.labels[diagram.labels >= 0]
    scalars = {
        "phase_diagram/num_runs": float(len(diagram.rows)),
        "phase_diagram/num_failed": float(num_failed),
        "phase_diagram/seconds": seconds,
        "phase_diagram/deceptive_sharpness": float(np.count_nonzero(diagram.deceptive_sharpness())),
        "phase_diagram/deceptive_flatness": float(np.count_nonzero(diagram.deceptive_flatness())),
    }
    if labels.size:
        scalars |= {
            f"phase_diagram/share_of_{regime.name.lower()}": float(np.mean(labels == regime)) for regime in Regime
        }
    correlations = diagram.correlations()
    tables = {"phase_diagram/cells": Table(list(cells[0]), [list(cell.values()) for cell in cells])}
    if correlations:
        tables["phase_diagram/correlations"] = Table(
            ("quantity", "with", "Spearman", "runs"),
            [(entry.first, entry.second, entry.coefficient, entry.num_runs) for entry in correlations],
        )
    return Record(
        "phase_diagram",
        step=0,
        global_step=0,
        epoch=0,
        scalars=scalars,
        tables=tables,
        figures={"phase_diagram/maps": draw},
        context={"x": diagram.x, "y": diagram.y, "seed": diagram.seed, "name": name},
    )
