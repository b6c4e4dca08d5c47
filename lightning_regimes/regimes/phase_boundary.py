"""Where a quantity crosses its threshold in the plane of a phase diagram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Line = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PhaseBoundary:
    """A boundary between phases, with what becomes of it when the threshold is moved.

    Attributes:
        quantity: key of what crosses.
        level: the threshold.
        lines: polylines of shape (n, 2), in positions along the two axes.
        lower: the same under a threshold that is smaller by the perturbation.
        upper: under one that is larger.
        crossings: for each value of the second axis, the first position along the first axis where the quantity comes
            to lie above the threshold; NaN where it never does.
    """

    quantity: str
    level: float
    lines: tuple[Line, ...]
    lower: tuple[Line, ...]
    upper: tuple[Line, ...]
    crossings: npt.NDArray[np.float64]


def axis_positions(values: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Return where the values of an axis lie: at their logarithms to base 10 if they are positive and span a decade,
    at the numbers themselves otherwise, and at 0, 1, 2, … if they are no numbers.
    """
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return np.arange(len(values), dtype=np.float64)
    numbers = np.array(values, dtype=np.float64)
    if is_logarithmic(values):
        return np.log10(numbers)
    return numbers


def is_logarithmic(values: Sequence[Any]) -> bool:
    """Whether an axis is spaced by logarithms."""
    if not values or not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return False
    return bool(min(values) > 0 and max(values) / min(values) >= 10)


def phase_boundary(
    quantity: str,
    values: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
    y: npt.NDArray[np.float64],
    *,
    level: float,
    perturbation: float = 0.2,
) -> PhaseBoundary:
    """Return where a quantity crosses a threshold, by linear interpolation of its logarithm and no smoothing.

    Args:
        quantity: its key.
        values: positive, shape (len(y), len(x)); infinite for a diverged cell, which counts as ten times the largest
            finite value or threshold; NaN for a cell that is missing, around which there is no boundary.
        x: increasing positions of the columns.
        y: increasing positions of the rows.
        level: the threshold.
        perturbation: relative change of the threshold for ``lower`` and ``upper``.

    Raises:
        ValueError: the shapes don't fit, or the level isn't positive.
    """
    if values.shape != (len(y), len(x)):
        raise ValueError(f"`values` need the shape {(len(y), len(x))} of the axes, got {values.shape}.")
    if not level > 0:
        raise ValueError(f"`level` must be positive, got {level}.")
    finite = values[np.isfinite(values)]
    largest = 10 * max(float(finite.max()) if finite.size else level, level)
    smallest = min(float(finite[finite > 0].min()) if (finite > 0).any() else level, level) / 10
    heights = np.log(np.clip(values, smallest, largest))  # NaN stays
    lower, middle, upper = (np.log(level * factor) for factor in (1 - perturbation, 1.0, 1 + perturbation))
    return PhaseBoundary(
        quantity=quantity,
        level=level,
        lines=_lines(heights, x, y, middle),
        lower=_lines(heights, x, y, lower),
        upper=_lines(heights, x, y, upper),
        crossings=np.array([_first_crossing(row, x, middle) for row in heights]),
    )


def _lines(heights: Line, x: Line, y: Line, level: float) -> tuple[Line, ...]:
    if len(x) < 2:
        return ()
    if len(y) < 2:
        crossing = _first_crossing(heights[0], x, level)
        return (np.array([[crossing, y[0]]]),) if np.isfinite(crossing) else ()
    from contourpy import contour_generator

    lines = contour_generator(x, y, np.ma.masked_invalid(heights), name="serial", corner_mask=False).lines(level)
    return tuple(np.asarray(line) for line in lines)


def _first_crossing(heights: Line, x: Line, level: float) -> float:
    for index in range(len(x) - 1):
        low, high = heights[index], heights[index + 1]
        if low <= level < high:  # false for NaN
            return float(x[index] + (x[index + 1] - x[index]) * (level - low) / (high - low))
    return np.nan
