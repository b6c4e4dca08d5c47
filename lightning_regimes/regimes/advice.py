"""What to do about a report: the rows of the table that apply, and the same in sentences."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_regimes.regimes.classification import Regime, RegimeReport
from lightning_regimes.regimes.guidance import GuidanceRow, remedies
from lightning_regimes.regimes.model_family import ModelFamily

_OPENING = {
    Regime.WELL_TRAINED: "Nothing has to change.",
    Regime.UNDER_TRAINED: "More data will not help.",
    Regime.OVER_TRAINED: "A better optimizer will not help.",
    Regime.INCONSISTENT: "The error is small although the loss is not.",
    Regime.DIVERGED: "",
}


@dataclass(frozen=True)
class Guidance:
    """What a regime calls for.

    Attributes:
        sentence: in words; also what ``str`` gives.
        rows: the lines of the table that it is made of, what helps most first.
    """

    sentence: str
    rows: tuple[GuidanceRow, ...]

    def __str__(self) -> str:
        return self.sentence


def guidance(report: RegimeReport, *, family: ModelFamily | str = ModelFamily.GENERAL) -> Guidance:
    """Return what helps in the regime of a report, for models of a family.

    Args:
        report: see :func:`~lightning_regimes.regimes.classify`.
        family: what is trained (:func:`~lightning_regimes.regimes.model_family`); by default only what helps any model.

    Raises:
        ValueError: there is no such family.

    References:
        Each row names its own; the comparison of optimizers across regimes is that of Wang et al. 2026,
        arXiv:2605.29153.
    """
    if family not in set(ModelFamily):
        raise ValueError(f"`family` is one of {', '.join(ModelFamily)}, got {family!r}")
    rows = remedies(report.label, ModelFamily(family))
    moving = report.provisional and report.label in (Regime.UNDER_TRAINED, Regime.OVER_TRAINED)
    parts = ["The loss is still moving: train on before judging." if moving else "", _OPENING[report.label]]
    return Guidance(" ".join(filter(None, [*parts, *(row.advice for row in rows)])), rows)
