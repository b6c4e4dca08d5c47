"""The levels and the scale on which a loss is drawn, linear or logarithmic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.colors import Normalize

Floats = NDArray[np.float64]

# From this ratio on, a linear scale would show nothing of the lower part.
_DECADES = 2.0
# What lies closer to the minimum, as a share of the range, is drawn as one.
_RESOLVED = 1e-8
_NUM_LEVELS = 14
_MIN_LEVELS = 4


@dataclass(frozen=True, eq=False)
class LossScale:
    """Contour levels over the loss itself, or over the loss minus its minimum.

    Attributes:
        levels: ascending; of ``loss - offset``.
        offset: the minimum for a logarithmic scale, else 0.
        is_logarithmic: whether the levels are spaced by their logarithms.
    """

    levels: Floats
    offset: float
    is_logarithmic: bool

    @property
    def label(self) -> str:
        """What the levels measure."""
        return f"loss above its minimum, {self.offset:.4g}" if self.is_logarithmic else "loss"

    def heights(self, values: ArrayLike) -> Floats:
        """Return what is compared with the levels; what is not finite becomes NaN."""
        heights = np.asarray(values, dtype=np.float64) - self.offset
        is_finite = np.isfinite(heights)
        # The minimum itself has no logarithm; anything below the lowest level looks the same. The ends of a linear
        # scale may miss the extremes by rounding, which would leave these blank.
        lowest = self.levels[0] * (1e-3 if self.is_logarithmic else 1.0)
        return np.where(is_finite, heights.clip(lowest, self.levels[-1]), np.nan)

    def norm(self) -> Normalize:
        """Return how heights become colours."""
        from matplotlib.colors import LogNorm, Normalize

        ends = float(self.levels[0]), float(self.levels[-1])
        return LogNorm(*ends) if self.is_logarithmic else Normalize(*ends)


def loss_scale(values: ArrayLike) -> LossScale:
    """Choose contour levels for a surface: logarithmic over the loss minus its minimum if that spans decades.

    It does where the loss is positive and rises a hundredfold, or where the highest point is a hundred times as far
    above the minimum as the nearest twentieth of the points.

    Raises:
        ValueError: no value is finite.
    """
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not finite.size:
        raise ValueError("the loss is finite nowhere on the grid; there is nothing to draw")
    low, high = float(finite.min()), float(finite.max())
    above = finite[finite > low + _RESOLVED * (high - low)] - low
    if above.size:
        is_steep = np.log10((high - low) / np.quantile(above, 0.05)) >= _DECADES
        levels = _logarithmic_levels(float(np.quantile(above, 0.01)), high - low)
        if (is_steep or spans_decades(finite)) and len(levels) >= _MIN_LEVELS:
            return LossScale(levels, low, is_logarithmic=True)
    from matplotlib.ticker import MaxNLocator

    if high == low:
        high = low + (abs(low) or 1.0) * 1e-3
    levels = np.asarray(MaxNLocator(_NUM_LEVELS).tick_values(low, high), dtype=np.float64)
    return LossScale(levels, 0.0, is_logarithmic=False)


def spans_decades(values: ArrayLike) -> bool:
    """Whether values are all positive, and the largest is more than a hundred times the smallest."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    return bool(finite.size and finite.min() > 0 and np.log10(finite.max() / finite.min()) >= _DECADES)


def label_numbers(axis: Axis) -> None:
    """Label a logarithmic axis in plain text, its decades, or what lies between them where there are few.

    Matplotlib's own labels are mathematics, which is slow, and shows as markup where it is switched off.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = sorted(axis.get_view_interval())
    decades = np.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < 1.7 else (1.0, 3.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=7))
    axis.set_major_formatter(FuncFormatter(lambda value, position: plain(value)))
    axis.set_minor_formatter(NullFormatter())


def plain(value: float) -> str:
    """Three digits: ``0.02``, ``1500``, ``3×10⁻⁵``."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return (f"{value:.3g}" if abs(value) < 1e3 else f"{value:.0f}").replace("-", "−")
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    mantissa = mantissa.rstrip("0").rstrip(".").replace("-", "−")
    return power if mantissa == "1" else f"{mantissa}×{power}"


_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def _logarithmic_levels(low: float, high: float) -> Floats:
    """Return levels from ``low`` to the first beyond ``high``: the fewer in a decade, the more decades there are."""
    decades = np.log10(high / low)
    for factors in ((1.0, 1.5, 2.0, 3.0, 5.0, 7.0), (1.0, 2.0, 5.0), (1.0, 3.0), (1.0,)):
        if decades * len(factors) <= _NUM_LEVELS:
            break
    powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    candidates = np.sort(np.concatenate([factor * 10.0**powers for factor in factors]))
    inside = (candidates > low) & (candidates < high)
    # The highest level closes the last band above the highest point.
    last = candidates[candidates >= high][:1]
    return np.concatenate([candidates[inside], last])
