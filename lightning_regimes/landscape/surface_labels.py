"""What the axes and the point of a loss surface are called in figures."""

from __future__ import annotations

import numpy as np

from lightning_regimes.landscape.loss_scale import plain
from lightning_regimes.landscape.surface import LossSurface


def axis_label(surface: LossSurface, index: int, *, with_unit: bool = True) -> str:
    """Return the name of an axis with the curvature or variance along it and the unit of its coordinates."""
    name = surface.names[index]
    found = surface.metadata.get("directions", {})
    number = name.rpartition(" ")[2]
    place = int(number) - 1 if number.isdecimal() else 0
    for kind, key, text in (
        ("eigenvector", "eigenvalues", "λ = {}"),
        ("principal component", "explained_variance_ratio", "{} % of the variance"),
    ):
        values = found.get(key, ())
        unit = 100 if kind == "principal component" else 1
        if surface.names[index].startswith(kind) and 0 <= place < len(values):
            name += f" ({text.format(plain(unit * values[place]))})"
    if not with_unit:
        return name
    if surface.unit == "norm":
        return f"{name}, units of ‖θ‖"
    return name if "anchors" in found else f"{name}, multiples of it"


def in_two_lines(label: str, *, width: int) -> str:
    """Break a label of more than so many characters before what stands in parentheses."""
    return label if len(label) <= width else label.replace(" (", "\n(", 1)


def point_label(surface: LossSurface) -> str | None:
    """Return what the legend says of the point itself, or nothing where it cannot be shown."""
    is_inside = all(axis[0] <= 0 <= axis[-1] for axis in surface.axes)
    return f"weights, loss {plain(surface.center_loss)}" if is_inside and np.isfinite(surface.center_loss) else None


def require_dim(surface: LossSurface, dim: int) -> None:
    """Refuse a surface with another number of directions, or without a finite value.

    Raises:
        ValueError: as said.
    """
    if surface.dim != dim:
        raise ValueError(f"`surface` must have {counted(dim, 'direction', 'directions')}, got {surface.dim}")
    if surface.num_nonfinite == surface.num_points:
        raise ValueError("`surface` is finite nowhere on its grid; there is nothing to draw")


def counted(number: int, one: str, several: str) -> str:
    """``1 minimum``, ``3 minima``."""
    return f"{number} {one if number == 1 else several}"
