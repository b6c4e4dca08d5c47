"""The loss surface and the merge tree of a record, for the panels that show them.

The numerics that draw them need torch, which a report on other records does without; so they are imported on use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_regimes.dashboard.palette import ACCENT, CONTRAST, INK, MUTED
from lightning_regimes.recording import Record

if TYPE_CHECKING:
    from lightning_regimes.landscape.figure_colours import FigureColours
    from lightning_regimes.landscape.surface import LossSurface


def recorded_surface(record: Record) -> LossSurface | None:
    """Return the surface of a record with ``landscape/values``, or nothing where it is finite nowhere or incomplete."""
    from lightning_regimes.landscape.surface import LossSurface

    values = np.asarray(record.arrays["landscape/values"], dtype=np.float64)
    keys = [f"landscape/axis_{index}" for index in range(1, values.ndim + 1)]
    if not np.isfinite(values).any() or any(key not in record.arrays for key in keys):
        return None
    axes = tuple(np.asarray(record.arrays[key], dtype=np.float64) for key in keys)
    if values.shape != tuple(len(axis) for axis in axes):
        return None
    names = tuple(record.context.get("names", ()))
    scalars = record.scalars
    eigenvalues = [
        scalars[key] for index in range(values.ndim) if (key := f"landscape/direction_{index + 1}") in scalars
    ]
    known = {"eigenvalues": eigenvalues, "explained_variance_ratio": record.context.get("explained_variance_ratio")}
    return LossSurface(
        values=values,
        axes=axes,
        unit="norm" if record.context.get("unit") == "norm" else "absolute",
        names=names if len(names) == values.ndim else tuple(f"axis {index + 1}" for index in range(values.ndim)),
        center_loss=scalars.get("landscape/center_loss", float("nan")),
        metadata={"directions": {key: value for key, value in known.items() if value}},
    )


def figure_colours() -> FigureColours:
    """Return the colours of the page for the figures that loggers show as well."""
    from lightning_regimes.landscape.figure_colours import FigureColours

    return FigureColours(ink=INK.marker, muted=MUTED.marker, accent=ACCENT.marker, contrast=CONTRAST.marker)
