"""The colours of the figures, by what they are for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FigureColours:
    """Colours of a figure outside its colour map, as matplotlib takes them.

    Attributes:
        ink: for lines that stand for a reference, and for what is written.
        muted: for what stays in the background.
        accent: for what is shown.
        contrast: for what is shown beside it.
        loss: name of the colour map of the loss, uniform to the eye.
    """

    ink: str = "#1b1f24"
    muted: str = "#667080"
    accent: str = "#3056d3"
    contrast: str = "#c2501c"
    loss: str = "viridis"


DEFAULT_COLOURS = FigureColours()
