"""How well one quantity orders the runs of a sweep by another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation of two recorded quantities over runs.

    Attributes:
        first: key of one quantity.
        second: key of the other.
        coefficient: between -1 and 1; NaN where one of them is the same in all runs.
        p_value: of no monotone relation, by Student's distribution; crude for few runs.
        num_runs: runs that have both.
    """

    first: str
    second: str
    coefficient: float
    p_value: float
    num_runs: int


def rank_correlation(rows: Sequence[Mapping[str, Any]], first: str, second: str) -> RankCorrelation | None:
    r"""Return Spearman's :math:`\rho`, Pearson's correlation of the ranks, with tied values at their mean rank.

    Args:
        rows: runs as mappings from keys to values; those without a number for both keys are left out.
        first: key of one quantity.
        second: key of the other.

    Returns:
        The correlation; None with fewer than three runs.
    """
    pairs = [(number(row.get(first)), number(row.get(second))) for row in rows]
    pairs = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if len(pairs) < 3:
        return None
    x, y = np.array(pairs).T
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return RankCorrelation(first, second, math.nan, math.nan, len(pairs))
    from scipy.stats import spearmanr

    result = spearmanr(x, y)
    return RankCorrelation(first, second, float(result.statistic), float(result.pvalue), len(pairs))


def number(value: Any) -> float:
    """A recorded value as a float; NaN where there is none."""
    return float(value) if isinstance(value, int | float) else math.nan
