"""The colours of the report, one name each, for light and dark screens.

Figures are drawn once, in marker colours that stand for nothing else; on the page each becomes a CSS variable, so
the same drawing follows the reader's colour scheme.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """A role on the page.

    Attributes:
        name: Of the CSS variable, without dashes.
        marker: What figures are drawn in.
        light: Shown on a light screen.
        dark: Shown on a dark screen.
    """

    name: str
    marker: str
    light: str
    dark: str


INK = Colour("ink", "#010a01", "#1b1f24", "#e8eaee")
MUTED = Colour("muted", "#020a02", "#667080", "#97a1b3")
GRID = Colour("grid", "#030a03", "#e3e6eb", "#2c323d")
PAGE = Colour("page", "#040a04", "#f6f7f9", "#0e1116")
SURFACE = Colour("surface", "#050a05", "#ffffff", "#171b22")
ACCENT = Colour("accent", "#060a06", "#3056d3", "#8fa8ff")
CONTRAST = Colour("contrast", "#070a07", "#b4481e", "#ff9e6b")

UNKNOWN = Colour("unknown", "#080a08", "#667080", "#97a1b3")
REGIMES = {
    "well-trained": Colour("well-trained", "#0a0a0a", "#1a7f4b", "#5fd394"),
    "under-trained": Colour("under-trained", "#0b0a0b", "#9f5b00", "#ffb454"),
    "over-trained": Colour("over-trained", "#0c0a0c", "#7a3fc4", "#bf9bff"),
    "inconsistent": Colour("inconsistent", "#0d0a0d", "#47637e", "#9fb9d3"),
    "diverged": Colour("diverged", "#0e0a0e", "#c22f3d", "#ff8088"),
}

SERIES = (
    ACCENT,
    CONTRAST,
    Colour("series-3", "#100a10", "#0f7b7b", "#4fd1d1"),
    Colour("series-4", "#110a11", "#9a3b8f", "#f08be0"),
    Colour("series-5", "#120a12", "#6b7300", "#cfd45a"),
    Colour("series-6", "#130a13", "#5b5f6b", "#b9bfcc"),
)
"""Lines of runs that are told apart by their colour."""

COLOURS = (INK, MUTED, GRID, PAGE, SURFACE, ACCENT, CONTRAST, UNKNOWN, *REGIMES.values(), *SERIES[2:])


def regime_colour(label: str | None) -> Colour:
    """Colour of a regime by its displayed name; of the unknown where there is none."""
    return REGIMES.get(label or "", UNKNOWN)
