"""The report of a run: one HTML file that needs nothing but a browser."""

import html
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_regimes.dashboard.alignment_history import alignment_history, step_size_bands
from lightning_regimes.dashboard.bifurcation import bifurcation
from lightning_regimes.dashboard.comparison import COMPARISONS
from lightning_regimes.dashboard.curvature_history import edge_of_stability, row_blocks, spectrum_history, trace_history
from lightning_regimes.dashboard.density_heat_map import density_heat_map
from lightning_regimes.dashboard.diagonal_dominance import diagonal_dominance
from lightning_regimes.dashboard.field_maps import field_maps
from lightning_regimes.dashboard.found_runs import common_report, found_runs
from lightning_regimes.dashboard.graph_sanitization import graph_sanitization
from lightning_regimes.dashboard.heavy_tails import heavy_tails
from lightning_regimes.dashboard.html_table import folded
from lightning_regimes.dashboard.landscape_surface import connecting_path, landscape_surface, layer_similarity
from lightning_regimes.dashboard.landscape_topology import landscape_topology, smad_history
from lightning_regimes.dashboard.layer_split import layer_split
from lightning_regimes.dashboard.loss_curve import loss_curve
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.projection_history import projection_history
from lightning_regimes.dashboard.regime_map import regime_map
from lightning_regimes.dashboard.run_view import RunView
from lightning_regimes.dashboard.style_sheet import STYLE_SHEET
from lightning_regimes.dashboard.svg import inline_svg, report_style
from lightning_regimes.dashboard.sweep_section import (
    cells_table,
    correlations_table,
    counts_html,
    failures_table,
    phase_diagram_panel,
    progress_text,
)
from lightning_regimes.dashboard.tables import cost_table, overview_table, values_table
from lightning_regimes.dashboard.verdict import verdict_html
from lightning_regimes.sweep.recorded_sweep import RecordedSweep, is_sweep

_PANELS: tuple[Callable[[RunView], Panel | None], ...] = (
    lambda run: regime_map([run]),
    loss_curve,
    field_maps,
    spectrum_history,
    edge_of_stability,
    trace_history,
    row_blocks,
    bifurcation,
    density_heat_map,
    alignment_history,
    step_size_bands,
    projection_history,
    graph_sanitization,
    heavy_tails,
    diagonal_dominance,
    layer_split,
    landscape_surface,
    landscape_topology,
    smad_history,
    connecting_path,
    layer_similarity,
)

# Drawing takes a few tenths of a second a run, and beyond a few runs nobody looks at each.
_MOST_RUNS_IN_FULL = 4


def write_report(
    run_directories: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str] | None = None
) -> Path:
    """Write one self-contained HTML page about one or more runs or sweeps.

    The page holds its figures as inline SVG and refers to nothing on any network. The same records give the same
    bytes. Several runs are drawn into common figures; up to four of them have their own figures, too, and of more than
    four there are verdicts and values.

    Args:
        run_directories: Run directories, those that hold ``regimes/records.jsonl``, folders of runs, and directories
            of sweeps.
        output: The file; by default ``report.html`` in the one directory that is given, or in the one that holds all.

    Returns:
        The file written.

    Raises:
        FileNotFoundError: If no directory holds records.
        ValueError: If there is no directory, or all journals are empty.
    """
    runs, sweeps = _shown(run_directories)
    shown = [sweep.directory for sweep in sweeps] + [run.directory for run in runs]
    path = Path(output) if output is not None else common_report(run_directories, shown)
    with report_style():
        page = _page(runs, sweeps)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(path)
    return path


def report_page(run_directories: Sequence[str | os.PathLike[str]]) -> str:
    """The page that :func:`write_report` writes, with the same arguments and errors."""
    runs, sweeps = _shown(run_directories)
    with report_style():
        return _page(runs, sweeps)


def _shown(run_directories: Sequence[str | os.PathLike[str]]) -> tuple[list[RunView], list[RecordedSweep]]:
    directories = found_runs(run_directories)
    if not directories:
        raise ValueError("a report needs at least one run directory.")
    sweeps = [RecordedSweep(directory) for directory in directories if is_sweep(directory)]
    others = [directory for directory in directories if not is_sweep(directory)]
    return _views(others) if others else [], sweeps


def _views(run_directories: Sequence[Path]) -> list[RunView]:
    """The runs that have records; an unfinished start among several runs is no reason to show none of them."""
    runs: list[RunView] = []
    errors: list[FileNotFoundError | ValueError] = []
    for directory in run_directories:
        try:
            runs.append(RunView(directory))
        except (FileNotFoundError, ValueError) as error:
            errors.append(error)
    if not runs:
        raise errors[0]
    for left_out in errors:
        warnings.warn(f"Left out of the report: {left_out}", stacklevel=4)
    return runs


def _page(runs: Sequence[RunView], sweeps: Sequence[RecordedSweep]) -> str:
    names = [*(sweep.name for sweep in sweeps), *(run.name for run in runs)]
    title = names[0] if len(names) == 1 else f"{len(names)} runs"
    overview = ""
    if len(runs) > 1:
        together = [regime_map(runs), *(draw(runs) for draw in COMPARISONS)]
        overview = (
            f"<header><h1>{html.escape(title)}</h1></header>\n"
            f'<div class="panels">{_card("Runs", overview_table(runs), wide=True)}'
            f"{''.join(_panel(panel) for panel in together if panel)}</div>"
        )
    sections = "".join(_sweep(sweep, index) for index, sweep in enumerate(sweeps))
    in_full = len(runs) <= _MOST_RUNS_IN_FULL
    sections += "".join(_run(run, index, in_full=in_full) for index, run in enumerate(runs))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)} · training regimes</title>\n<style>{STYLE_SHEET}</style>\n</head>\n"
        f"<body>\n<main>\n{overview}\n{sections}\n"
        "<footer>Written by lightning-regimes from the records of the run.</footer>\n</main>\n</body>\n</html>\n"
    )


def _sweep(sweep: RecordedSweep, index: int) -> str:
    cards = []
    for name, diagram in sweep.diagrams().items():
        cards.append(_panel(phase_diagram_panel(diagram, name), wide=True, lead=counts_html(diagram)))
        if correlations := correlations_table(diagram):
            cards.append(_card("What goes with loss and error", correlations, wide=True))
        cards.append(_card("Cells", cells_table(diagram), wide=True))
    if failures := failures_table(sweep):
        cards.append(_card("Failed cells", failures, wide=True))
    return (
        f'<section class="run" id="sweep-{index}"><header><h1>{html.escape(sweep.name)}</h1>'
        f'<p>{progress_text(sweep)}</p></header>\n<div class="panels">{"".join(cards)}</div></section>'
    )


def _run(run: RunView, index: int, *, in_full: bool) -> str:
    last = run.records[-1]
    drawn = [panel for draw in _PANELS if (panel := draw(run))] if in_full else []
    # Beside the last of an odd number of narrow panels there is room for the costs.
    alone = sum(len(panel.pictures) == 1 for panel in drawn) % 2 == 0
    cost = _card(
        "What the diagnostics cost",
        cost_table(run)
        + '<p class="reading">Time spent measuring, and its share of the time spent training; none of it changes '
        "the training.</p>",
        wide=alone,
    )
    values = _card("Last values", folded(f"{len(run.last)} keys", values_table(run), opened=not drawn), wide=True)
    cards = [*map(_panel, drawn), cost, values]
    configuration = run.directory / "config.yaml"
    if configuration.is_file():
        text = html.escape(configuration.read_text(encoding="utf-8"))
        cards.append(_card("Configuration", folded("config.yaml", f'<pre tabindex="0">{text}</pre>'), wide=True))
    shown = f'<div class="panels">{"".join(cards)}</div>'
    if not in_full:
        command = html.escape(f"lightning-regimes report {run.directory}")
        shown = (
            f'<details class="more"><summary>Costs and values</summary>\n{shown}\n</details>\n'
            f'<p class="reading">Its figures: <code>{command}</code></p>'
        )
    count = f"{len(run.records)} record{'s' if len(run.records) > 1 else ''}"
    return (
        f'<section class="run" id="run-{index}"><header><h1>{html.escape(run.name)}</h1>'
        f"<p>{count} up to step {last.step}, epoch {last.epoch}</p></header>\n"
        f"{verdict_html(run)}\n{shown}</section>"
    )


def _panel(panel: Panel, *, wide: bool = False, lead: str = "") -> str:
    drawn = "".join(inline_svg(figure, alt) for figure, alt in panel.pictures)
    pictures = f'<div class="pictures">{drawn}</div>' if len(panel.pictures) > 1 else drawn
    broad = " wide" if wide or len(panel.pictures) > 1 else ""
    return (
        f'<figure class="panel{broad}"><h2>{html.escape(panel.title)}</h2>{lead}{pictures}'
        f"<figcaption>{html.escape(panel.reading)}</figcaption></figure>\n"
    )


def _card(title: str, body: str, *, wide: bool = False) -> str:
    return f'<div class="panel{" wide" if wide else ""}"><h2>{html.escape(title)}</h2>{body}</div>\n'
