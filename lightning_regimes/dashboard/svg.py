"""Figures as inline SVG that follows the page: its font, its colour scheme, its width."""

import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_regimes.dashboard.palette import COLOURS, GRID, INK, MUTED

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lightning-regimes",
    "font.size": 9,
    "text.color": INK.marker,
    "axes.labelcolor": MUTED.marker,
    "axes.titlesize": 9,
    "axes.edgecolor": GRID.marker,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.parse_math": False,
    "grid.color": GRID.marker,
    "grid.linewidth": 0.6,
    "xtick.color": GRID.marker,
    "ytick.color": GRID.marker,
    "xtick.labelcolor": MUTED.marker,
    "ytick.labelcolor": MUTED.marker,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "lines.solid_capstyle": "round",
}


@contextmanager
def report_style() -> Iterator[None]:
    """Within it, figures look as the report wants them, whatever the user's own settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def inline_svg(figure: Figure, alt: str) -> str:
    """Render a figure as an ``<svg>`` element for an HTML page, the same bytes for the same figure.

    Args:
        figure: Drawn under :func:`report_style`, in the marker colours of the palette.
        alt: What a reader who cannot see it is told.
    """
    buffer = io.StringIO()
    for axes in figure.axes:
        locator = axes.xaxis.get_major_locator()
        if axes.get_xlabel() == "step" and isinstance(locator, MaxNLocator):
            locator.set_params(integer=True)
    with report_style():
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].strip()
    # Namespaces are implied in HTML, and drop the only addresses in the file.
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    # Groups are numbered per figure; several figures of one page would repeat the numbers.
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    width, height = figure.get_size_inches() * 72
    head = f'<svg role="img" viewBox="0 0 {width:g} {height:g}" style="max-width: {width * 1.55:.0f}px">'
    text = re.sub(r"<svg[^>]*>", f"{head}<title>{html.escape(alt)}</title>", text, count=1)
    for colour in COLOURS:
        text = text.replace(colour.marker, f"var(--{colour.name})")
    return re.sub(r"\n\s*", "\n", text)
