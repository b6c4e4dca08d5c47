"""The section of a sweep in the report: its phase diagram, its table and what failed."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from lightning_regimes.dashboard.html_table import folded, html_table
from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.palette import INK, REGIMES, SURFACE, regime_colour
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.sweep.recorded_sweep import RecordedSweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from lightning_regimes.regimes import PhaseDiagram
    from lightning_regimes.regimes.phase_diagram_figure import PhaseDiagramColours

_FLAGS = {"deceptive_sharpness": "sharp though trained", "deceptive_flatness": "flat though not trained"}
_CORRELATIONS = (
    "Spearman's ρ over all runs: 1 where both always rise together, −1 where one falls as the other rises, 0 where "
    "neither says anything about the other."
)
# A longer table is of use to those who look for a cell.
_MOST_CELLS_UNFOLDED = 12


def phase_diagram_panel(diagram: PhaseDiagram, name: str = "") -> Panel:
    """Draw the regimes over the axes, and each quantity that was recorded, one picture each.

    Args:
        diagram: of the sweep.
        name: what tells it from other diagrams of the same sweep.
    """
    from lightning_regimes.regimes.phase_diagram_figure import draw_map, draw_phases, draw_regimes

    colours = _colours()
    pictures = [_picture(lambda axes: draw_regimes(axes, diagram, colours=colours), _counted(diagram))]
    if diagram.has_phases:
        phases = ", ".join(f"{_cell(diagram, row)} {row['phase'] or 'none'}" for row in diagram.table())
        pictures.append(
            _picture(
                lambda axes: draw_phases(axes, diagram, colours=colours), f"Phases of load and temperature: {phases}."
            )
        )
    for key in diagram.quantities:
        pictures.append(_picture(_map_of(draw_map, diagram, key, colours), _range_of(diagram, key)))
    reading = (
        "Each cell is what most seeds ended as; the paler it is, the fewer seeds agree. Beyond the solid line the "
        "training loss is too high, beyond the dashed line the error is; both are drawn straight between cells, on "
        "a logarithmic scale, and thin lines show where they lie with thresholds 20 % lower and higher. "
        "Triangles mark cells in which the curvature says the opposite of the regime."
    )
    if diagram.has_phases:
        reading += (
            " Phases compare two seeds of a cell: I and II are sharp, III and IV flat; in I and III a barrier "
            "separates the seeds, in II and IV none does; in IV-B their outputs are alike."
        )
    return Panel(title="Phase diagram" + (f": {name}" if name else ""), reading=reading, pictures=tuple(pictures))


def counts_html(diagram: PhaseDiagram) -> str:
    """How many cells ended in which regime."""
    chips = (
        f'<span class="chip" style="--regime: var(--{regime_colour(label).name})">{count} {label}</span>'
        for label, count in _counts(diagram).items()
        if count
    )
    return f'<p class="counts">{" ".join(chips)}</p>'


def cells_table(diagram: PhaseDiagram) -> str:
    """One row a cell: its parameters, regime, agreement of the seeds, the averages over them, and its runs."""
    from lightning_regimes.regimes.phase_diagram_figure import axis_name

    table = diagram.table()
    axes = [name for name in (diagram.x, diagram.y) if name is not None]
    quantities = [f"#{_title(key)}" for key in diagram.quantities]
    head = [*map(axis_name, axes), "regime", "#agreement", *quantities, "curvature", "runs"]
    body = []
    for row in table:
        label = _displayed(row["label"]) if row["label"] else None
        chip = f'<td class="chip" style="--regime: var(--{regime_colour(label).name})">{label or "no verdict"}</td>'
        values = "".join(f"<td>{html.escape(_entry(row[name]))}</td>" for name in axes)
        agreement = row["agreement"]
        share = "–" if math.isnan(agreement) else f"{100 * agreement:.0f} %"
        numbers = "".join(f'<td class="number">{_entry(row[key])}</td>' for key in diagram.quantities)
        flags = ", ".join(text for flag, text in _FLAGS.items() if row[flag])
        runs = html.escape(", ".join(_folders(diagram, row)))
        seen = f"<td>{flags}</td><td><code>{runs}</code></td>"
        body.append(f'<tr>{values}{chip}<td class="number">{share}</td>{numbers}{seen}</tr>')
    reading = (
        '<p class="reading">Averages over the seeds of a cell; agreement is the share of seeds that have its label. '
        "<code>lightning-regimes report</code> with one of the runs shows how it went.</p>"
    )
    return folded(
        f"{len(table)} cells", html_table(head, body, kind="cells") + reading, opened=len(table) <= _MOST_CELLS_UNFOLDED
    )


def correlations_table(diagram: PhaseDiagram) -> str:
    """One row a pair of quantities: Spearman's correlation over the runs."""
    body = [
        f"<tr><td>{html.escape(_title(entry.first))}</td><td>{html.escape(_title(entry.second))}</td>"
        f'<td class="number">{_entry(entry.coefficient)}</td><td class="number">{entry.num_runs}</td></tr>'
        for entry in diagram.correlations()
    ]
    if not body:
        return ""
    return (
        html_table(["quantity", "with", "#Spearman's ρ", "#runs"], body, kind="wrapped")
        + f'<p class="reading">{_CORRELATIONS}</p>'
    )


def failures_table(sweep: RecordedSweep) -> str:
    """One row a cell that failed, with what went wrong."""
    body = [
        f"<tr><td>{html.escape(', '.join(f'{name}={value}' for name, value in row['parameters'].items()))}</td>"
        f'<td class="meaning">{html.escape(str(row["error"]))}</td></tr>'
        for row in (*sweep.failed, *sweep.failed_pairs)
    ]
    return html_table(["cell", "error"], body) if body else ""


def progress_text(sweep: RecordedSweep) -> str:
    """How many runs there are, and how they ended."""
    seconds = sum(row.get("seconds", 0.0) for row in sweep.finished)
    text = f"{len(sweep.finished)} of {sweep.num_cells} runs finished"
    text += f", {len(sweep.failed)} failed" if sweep.failed else ""
    text += f", {len(sweep.pairs)} pairs of seeds compared" if sweep.pairs else ""
    return f"{text}; {short(float(round(seconds)))} s of training"


def _colours() -> PhaseDiagramColours:
    from lightning_regimes.regimes.phase_diagram_figure import PhaseDiagramColours

    return PhaseDiagramColours(
        ink=INK.marker,
        halo=SURFACE.marker,
        regimes=tuple(colour.marker for colour in REGIMES.values()),  # type: ignore[arg-type]
    )


def _picture(draw: Callable[[Axes], None], alt: str) -> tuple[Figure, str]:
    figure = Figure(figsize=(4.1, 3.4))
    axes = figure.add_subplot()
    draw(axes)
    if axes.get_legend():
        # Below the map, it needs a second look at the room that is left.
        figure.draw_without_rendering()
    return figure, alt


def _map_of(
    draw: Callable[..., None], diagram: PhaseDiagram, key: str, colours: PhaseDiagramColours
) -> Callable[[Axes], None]:
    return lambda axes: draw(axes, diagram, key, colours=colours)


def _range_of(diagram: PhaseDiagram, key: str) -> str:
    rows = [row for row in diagram.table() if math.isfinite(row[key])]
    low, high = min(rows, key=lambda row: row[key]), max(rows, key=lambda row: row[key])
    return (
        f"{_title(key)} over the axes: from {short(low[key])} at {_cell(diagram, low)} to {short(high[key])} at "
        f"{_cell(diagram, high)}."
    )


def _counted(diagram: PhaseDiagram) -> str:
    said = ", ".join(f"{count} {label}" for label, count in _counts(diagram).items() if count)
    return f"Regimes over the axes, by cells: {said or 'none has a verdict'}."


def _counts(diagram: PhaseDiagram) -> dict[str, int]:
    counts = dict.fromkeys(REGIMES, 0)
    for row in diagram.table():
        if row["label"]:
            counts[_displayed(row["label"])] += 1
    return counts


def _cell(diagram: PhaseDiagram, row: dict[str, Any]) -> str:
    from lightning_regimes.regimes.phase_diagram_figure import axis_name

    return ", ".join(f"{axis_name(name)} {_entry(row[name])}" for name in (diagram.x, diagram.y) if name is not None)


def _folders(diagram: PhaseDiagram, row: dict[str, Any]) -> Sequence[str]:
    """The folders of a cell's runs, below that of the sweep: ``cells/<key>``."""
    axes = [name for name in (diagram.x, diagram.y) if name is not None]
    runs = [run["run"] for run in diagram.rows if run.get("run") and all(run[name] == row[name] for name in axes)]
    return ["/".join(str(run).split("/")[:2]) for run in runs]


def _title(key: str) -> str:
    from lightning_regimes.regimes.phase_diagram_figure import TITLES

    return TITLES.get(key, key)


def _displayed(label: str) -> str:
    return label.lower().replace("_", "-")


def _entry(value: Any) -> str:
    if isinstance(value, float):
        return "–" if math.isnan(value) else short(value)
    return str(value)
