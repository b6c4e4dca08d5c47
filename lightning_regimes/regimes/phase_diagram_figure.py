"""Figure of a phase diagram: the regimes and the quantities behind them, one map each, with their boundaries."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_regimes.regimes.classification import Regime
from lightning_regimes.regimes.load_temperature_phases import LoadTemperaturePhase
from lightning_regimes.regimes.phase_boundary import PhaseBoundary, axis_positions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from lightning_regimes.regimes.phase_diagram import PhaseDiagram

TITLES = {
    "regime/normalized_loss": "training loss / reference loss",
    "regime/test_error": "error",
    "regime/estimated_error": "estimated error",
    "regime/normalized_heldout_loss": "held-out loss / reference loss",
    "hessian/lambda_1": "λ₁, largest curvature",
    "hessian/trace": "trace of the Hessian",
    "landscape/smad_merge_tree": "SMAD of the landscape",
    "connectivity/mode_connectivity": "mode connectivity between seeds",
    "similarity/cka_mean": "similarity between seeds (CKA)",
    "similarity/cka_output": "similarity of outputs between seeds (CKA)",
}
"""The maps by the keys of what they show."""

# More names would run into each other.
_MAX_TICKS = 9
_MAX_LARGE_LETTERS = 40
_MAX_LETTERS = 49
_DOTTED_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


@dataclass(frozen=True)
class PhaseDiagramColours:
    """Colours of a phase diagram, as matplotlib takes them.

    Attributes:
        ink: for boundaries and what is written.
        halo: around boundaries, to set them off from the map.
        regimes: of the regimes in their order.
        phases: of the phases of load and temperature in their order.
        map: name of the colour map of quantities, uniform to the eye.
    """

    ink: str = "#1b1f24"
    halo: str = "#ffffff"
    regimes: tuple[str, str, str, str, str] = ("#1a7f4b", "#9f5b00", "#7a3fc4", "#47637e", "#c22f3d")
    phases: tuple[str, str, str, str, str] = ("#c22f3d", "#9f5b00", "#7a3fc4", "#3b7dc4", "#1a7f4b")
    map: str = "viridis"


def draw_phase_diagram(
    diagram: PhaseDiagram,
    *,
    keys: Sequence[str] | None = None,
    colours: PhaseDiagramColours | None = None,
    columns: int = 3,
) -> Figure:
    """Draw the regimes and several maps beside each other; see :meth:`PhaseDiagram.figure`."""
    from matplotlib.figure import Figure

    colours = colours or PhaseDiagramColours()
    shown = list(diagram.quantities if keys is None else keys)
    num_panels = 1 + len(shown) + diagram.has_phases
    columns = min(columns, num_panels)
    rows = -(-num_panels // columns)
    figure = Figure(figsize=(4.1 * columns, 3.4 * rows), dpi=150, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    draw_regimes(grid[0], diagram, colours=colours)
    for axes, key in zip(grid[1 + diagram.has_phases :], shown, strict=False):
        draw_map(axes, diagram, key, colours=colours)
    if diagram.has_phases:
        draw_phases(grid[1], diagram, colours=colours)
    for axes in grid[num_panels:]:
        axes.remove()
    return figure


def draw_regimes(axes: Axes, diagram: PhaseDiagram, *, colours: PhaseDiagramColours) -> None:
    """Draw each cell in the colour of its regime, the paler the fewer seeds agree, with both boundaries."""
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Patch

    labels, agreement = diagram.labels, diagram.agreement
    picture = np.zeros((*diagram.shape, 4))
    for i, j in np.ndindex(diagram.shape):
        if labels[i, j] >= 0:
            picture[i, j] = to_rgba(colours.regimes[labels[i, j]], alpha=0.25 + 0.6 * float(agreement[i, j]))
    x, y = _positions(diagram)
    cells = axes.pcolormesh(_edges(x), _edges(y), np.zeros(diagram.shape))
    cells.set(array=None, facecolor=picture.reshape(-1, 4))
    for i, j in zip(*np.nonzero(np.nan_to_num(agreement, nan=1.0) < 1), strict=True):
        text = f"{100 * agreement[i, j]:.0f} %"
        # Below the middle, where the marks are.
        axes.annotate(
            text,
            (float(x[j]), float(y[i])),
            (0, -5),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize="x-small",
            color=colours.ink,
        )
    for flags, mark, name in (
        (diagram.deceptive_sharpness(), "^", "sharp though trained"),
        (diagram.deceptive_flatness(), "v", "flat though not trained"),
    ):
        if flags.any():
            i, j = np.nonzero(flags)
            axes.plot(x[j], y[i], mark, color=colours.ink, markersize=3.5, linestyle="", label=name)
    _frame(axes, diagram, "regime, by most seeds", colours)
    _draw_boundary(axes, _boundary(diagram, "regime/normalized_loss"), colours, "solid")
    _draw_boundary(axes, diagram.generalization_boundary(), colours, "dashed")
    there = [Regime(label) for label in sorted(set(labels[labels >= 0].tolist()))]
    patches = [
        Patch(color=colours.regimes[regime], alpha=0.85, label=regime.name.lower().replace("_", "-"))
        for regime in there
    ]
    marks, _ = axes.get_legend_handles_labels()
    axes.legend(
        handles=[*patches, *marks],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.18 - 0.28 * _room_of_names(_texts(diagram.x_values))),
        ncols=2,
        columnspacing=1.0,
        handlelength=1.4,
        frameon=False,
        fontsize="x-small",
    )


def draw_phases(axes: Axes, diagram: PhaseDiagram, *, colours: PhaseDiagramColours) -> None:
    """Draw each cell in the colour of its phase of load and temperature, and name it."""
    from matplotlib.colors import to_rgba

    phases = diagram.load_temperature_phases()
    picture = np.zeros((*diagram.shape, 4))
    x, y = _positions(diagram)
    for i, j in np.ndindex(diagram.shape):
        if phases[i, j] >= 0:
            picture[i, j] = to_rgba(colours.phases[phases[i, j]], alpha=0.6)
            name = LoadTemperaturePhase(int(phases[i, j])).name.replace("_", "-")
            axes.text(float(x[j]), float(y[i]), name, ha="center", va="center", fontsize="small", color=colours.ink)
    cells = axes.pcolormesh(_edges(x), _edges(y), np.zeros(diagram.shape))
    cells.set(array=None, facecolor=picture.reshape(-1, 4))
    _frame(axes, diagram, "phase of load and temperature", colours)


def draw_map(axes: Axes, diagram: PhaseDiagram, key: str, *, colours: PhaseDiagramColours) -> None:
    """Draw the averages of a quantity, on a logarithmic scale where they span a decade, with its boundary."""
    from matplotlib.colors import LogNorm, Normalize

    values = diagram.mean(key)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    logarithmic = low > 0 and high / low >= 10
    norm = LogNorm(low, high) if logarithmic else Normalize(low, high if high > low else low + (abs(low) or 1.0))
    x, y = _positions(diagram)
    # A diverged cell is as bright as the worst that has a number.
    shown = np.ma.masked_invalid(np.where(np.isposinf(values), high, values))
    mesh = axes.pcolormesh(_edges(x), _edges(y), shown, norm=norm, cmap=colours.map)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.02, aspect=24)
    bar.outline.set_visible(False)
    if logarithmic:
        _label_numbers(bar.ax.yaxis, low, high)
    title = TITLES.get(key, key)
    diverged = int(np.isposinf(values).sum())
    _frame(axes, diagram, f"{title} (infinite in {diverged})" if diverged else title, colours)
    if key in ("regime/normalized_loss", diagram.error_key):
        style = "solid" if key == "regime/normalized_loss" else "dashed"
        _draw_boundary(axes, _boundary(diagram, key), colours, style)


def _boundary(diagram: PhaseDiagram, key: str) -> PhaseBoundary | None:
    return diagram.boundary(key) if key in diagram.quantities else None


def _draw_boundary(axes: Axes, boundary: PhaseBoundary | None, colours: PhaseDiagramColours, style: str) -> None:
    if boundary is None:
        return
    for line in boundary.lines:
        if len(line) == 1:
            axes.axvline(line[0, 0], color=colours.ink, linewidth=1.5, linestyle=style)
        else:
            axes.plot(*line.T, color=colours.halo, linewidth=3.2, alpha=0.6)
            axes.plot(*line.T, color=colours.ink, linewidth=1.5, linestyle=style)
    for line in (*boundary.lower, *boundary.upper):
        if len(line) > 1:
            axes.plot(*line.T, color=colours.ink, linewidth=0.6, linestyle=style, alpha=0.7)


def _frame(axes: Axes, diagram: PhaseDiagram, title: str, colours: PhaseDiagramColours) -> None:
    x, y = _positions(diagram)
    axes.set(xlim=_edges(x)[[0, -1]], ylim=_edges(y)[[0, -1]])
    axes.set_title(title, fontsize="medium", color=colours.ink)
    axes.grid(visible=False)
    _label_axis(axes.xaxis, x, diagram.x_values)
    axes.set_xlabel(axis_name(diagram.x))
    if diagram.y is None:
        axes.set_yticks([])
        return
    _label_axis(axes.yaxis, y, diagram.y_values)
    axes.set_ylabel(axis_name(diagram.y))


def axis_name(name: str) -> str:
    """The last part of a parameter's name, as people read it."""
    return name.rpartition(".")[2].replace("_", " ")


def _label_axis(axis: Axis, positions: np.ndarray, values: Sequence[Any]) -> None:
    from matplotlib.axis import XAxis

    step = -(-len(values) // _MAX_TICKS)
    texts = _texts(values)
    axis.set_ticks(positions[::step].tolist(), labels=texts[::step], minor=False)
    if isinstance(axis, XAxis) and _letters(texts) > _MAX_LETTERS:
        for label in axis.get_ticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    elif isinstance(axis, XAxis) and _letters(texts) > _MAX_LARGE_LETTERS:
        axis.set_tick_params(labelsize="small")


def _texts(values: Sequence[Any]) -> list[str]:
    """Values as they stand at an axis, names of several words in as many lines."""
    return [f"{value:g}" if isinstance(value, int | float) else _class_name(str(value)) for value in values]


def _letters(texts: Sequence[str]) -> int:
    """How many letters names take beside each other, each as much room as the longest."""
    return max(len(line) for text in texts for line in text.split("\n")) * len(texts)


def _room_of_names(texts: Sequence[str]) -> float:
    """How much names take below an axis beyond a line, in parts of its height, about a third at most."""
    if _letters(texts) > _MAX_LETTERS:
        return min(1.0, 0.06 * max(map(len, texts)))
    return 0.2 * max(text.count("\n") for text in texts)


def _class_name(text: str) -> str:
    if not _DOTTED_NAME.fullmatch(text):
        return text.strip("[]")  # a list, such as a range
    return text.rpartition(".")[2].removesuffix("Factory").replace("_", "\n")


def _label_numbers(axis: Axis, low: float, high: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0,) if high / low >= 100 else (1.0, 3.0), numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, position: _plain(value)))
    axis.set_minor_formatter(NullFormatter())


def _plain(value: float) -> str:
    if 1e-2 <= value < 1e4:
        return f"{value:.3g}" if value < 1e3 else f"{value:.0f}"
    exponent = math.floor(math.log10(value) + 1e-9)
    mantissa = f"{value / 10**exponent:.3g}"
    power = "10" + str(exponent).translate(_SUPERSCRIPT)
    return power if mantissa == "1" else f"{mantissa}×{power}"


_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def _positions(diagram: PhaseDiagram) -> tuple[np.ndarray, np.ndarray]:
    y = np.zeros(1) if diagram.y is None else axis_positions(diagram.y_values)
    return axis_positions(diagram.x_values), y


def _edges(positions: np.ndarray) -> np.ndarray:
    """Borders of the cells around positions, half way between neighbours."""
    if len(positions) == 1:
        return np.array([positions[0] - 0.5, positions[0] + 0.5])
    between = (positions[:-1] + positions[1:]) / 2
    return np.concatenate([[2 * positions[0] - between[0]], between, [2 * positions[-1] - between[-1]]])
