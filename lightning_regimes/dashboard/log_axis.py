"""Logarithmic axes labelled in plain text."""

import math

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, NullFormatter

from lightning_regimes.dashboard.number_format import power_of_ten


def label_decades(axis: Axis) -> None:
    """Label the decades of a logarithmic or symmetric logarithmic axis ``10⁻³``, and nothing between them.

    Matplotlib would typeset each label as mathematics, which costs most of the time of a report.
    """
    axis.set_major_formatter(FuncFormatter(_label))
    axis.set_minor_formatter(NullFormatter())


def _label(value: float, position: int | None) -> str:
    if value == 0:
        return "0"
    exponent = math.log10(abs(value))
    if abs(exponent - round(exponent)) > 1e-6:
        return ""
    return ("−" if value < 0 else "") + power_of_ten(round(exponent))
