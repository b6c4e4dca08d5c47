"""The colours of the figures of this package."""

#: For what is shown, for what is shown beside it, and for what stays in the background.
ACCENT = "#3056d3"
CONTRAST = "#c2501c"
MUTED = "#667080"
