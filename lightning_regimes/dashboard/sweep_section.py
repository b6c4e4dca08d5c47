"""The section of a sweep in the report: its phase diagram, its table and what failed."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.palette import INK, REGIMES, SURFACE, regime_colour
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.sweep.recorded_sweep import RecordedSweep

if TYPE_CHECKING:
    from lightning_regimes.regimes import PhaseDiagram

_FLAGS = {"deceptive_sharpness": "sharp though trained", "deceptive_flatness": "flat though not trained"}


def phase_diagram_panel(diagram: PhaseDiagram, name: str = "") -> Panel:
    """Draw the regimes over the axes, and each quantity that was recorded.

    Args:
        diagram: of the sweep.
        name: what tells it from other diagrams of the same sweep.
    """
    from lightning_regimes.regimes.phase_diagram_figure import PhaseDiagramColours

    colours = PhaseDiagramColours(
        ink=INK.marker,
        halo=SURFACE.marker,
        regimes=tuple(colour.marker for colour in REGIMES.values()),  # type: ignore[arg-type]
    )
    counts = dict.fromkeys(REGIMES, 0)
    for row in diagram.table():
        if row["label"]:
            counts[_displayed(row["label"])] += 1
    said = ", ".join(f"{count} cells {label}" for label, count in counts.items() if count)
    phases = (
        " Phases compare two seeds of a cell: I and II are sharp, III and IV flat; in I and III a barrier separates "
        "the seeds, in II and IV none does; in IV-B their outputs are alike."
    )
    return Panel(
        title="Phase diagram" + (f": {name}" if name else ""),
        reading=(
            "Each cell is what most seeds ended as; the paler it is, the fewer seeds agree. Beyond the solid line the "
            "training loss is too high, beyond the dashed line the error is; both are drawn straight between cells, on "
            "a logarithmic scale, and thin lines show where they lie with thresholds 20 % lower and higher. "
            "Triangles mark cells in which the curvature says the opposite of the regime."
            + (phases if diagram.has_phases else "")
        ),
        pictures=((diagram.figure(colours=colours), f"Regimes and measured quantities over the axes: {said}."),),
    )


def cells_table(diagram: PhaseDiagram) -> str:
    """One row a cell: its parameters, regime, agreement of the seeds and the averages over them."""
    rows = diagram.table()
    axes = [name for name in (diagram.x, diagram.y) if name is not None]
    head = [*axes, "regime", "#agreement", *(f"#{key}" for key in diagram.quantities), "curvature"]
    body = []
    for row in rows:
        label = _displayed(row["label"]) if row["label"] else None
        chip = f'<td class="chip" style="--regime: var(--{regime_colour(label).name})">{label or "no verdict"}</td>'
        values = "".join(f"<td>{html.escape(_entry(row[name]))}</td>" for name in axes)
        agreement = row["agreement"]
        share = "–" if math.isnan(agreement) else f"{100 * agreement:.0f} %"
        numbers = "".join(f'<td class="number">{_entry(row[key])}</td>' for key in diagram.quantities)
        flags = ", ".join(text for flag, text in _FLAGS.items() if row[flag])
        body.append(f'<tr>{values}{chip}<td class="number">{share}</td>{numbers}<td>{flags}</td></tr>')
    return _table(head, body)


def correlations_table(diagram: PhaseDiagram) -> str:
    """One row a pair of quantities: Spearman's correlation over the runs."""
    body = [
        f"<tr><td><code>{html.escape(entry.first)}</code></td><td><code>{html.escape(entry.second)}</code></td>"
        f'<td class="number">{_entry(entry.coefficient)}</td><td class="number">{entry.num_runs}</td></tr>'
        for entry in diagram.correlations()
    ]
    return _table(["quantity", "with", "#Spearman's ρ", "#runs"], body) if body else ""


def failures_table(sweep: RecordedSweep) -> str:
    """One row a cell that failed, with what went wrong."""
    body = [
        f"<tr><td>{html.escape(', '.join(f'{name}={value}' for name, value in row['parameters'].items()))}</td>"
        f'<td class="meaning">{html.escape(str(row["error"]))}</td></tr>'
        for row in (*sweep.failed, *sweep.failed_pairs)
    ]
    return _table(["cell", "error"], body) if body else ""


def progress_text(sweep: RecordedSweep) -> str:
    """How many cells there are, and how they ended."""
    seconds = sum(row.get("seconds", 0.0) for row in sweep.finished)
    text = f"{len(sweep.finished)} of {sweep.num_cells} cells finished"
    text += f", {len(sweep.failed)} failed" if sweep.failed else ""
    text += f", {len(sweep.pairs)} pairs of seeds compared" if sweep.pairs else ""
    return f"{text}; {short(float(round(seconds)))} s of training"


def _displayed(label: str) -> str:
    return label.lower().replace("_", "-")


def _entry(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else short(value)
    return str(value)


def _table(titles: Sequence[str], body: Sequence[str]) -> str:
    head = "".join(
        f'<th class="number">{html.escape(title[1:])}</th>'
        if title.startswith("#")
        else f"<th>{html.escape(title)}</th>"
        for title in titles
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{"".join(body)}</table></div>'
