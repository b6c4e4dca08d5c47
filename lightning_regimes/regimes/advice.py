"""What to do about a regime, in one sentence for each."""

from __future__ import annotations

from lightning_regimes.regimes.classification import Regime, RegimeReport

_GUIDANCE = {
    Regime.WELL_TRAINED: (
        "Nothing has to change; a second-order polish (L-BFGS, or a Newton method with conjugate gradients) "
        "lowers the error most from here."
    ),
    Regime.UNDER_TRAINED: (
        "Optimization is the limit, more data is not: raise the difficulty gradually (curriculum), enforce constraints "
        "with an augmented Lagrangian, or follow Adam by L-BFGS; larger learning rates or more steps help only while "
        "the loss still falls."
    ),
    Regime.OVER_TRAINED: (
        "Data is the limit, a better optimizer is not: add or resample data (collocation points), regularize, or "
        "sample regions in place of points."
    ),
    Regime.INCONSISTENT: (
        "The error is small although the loss is not: check the weights of the loss terms, and that loss and error "
        "measure the same thing."
    ),
    Regime.DIVERGED: (
        "Lower the learning rate, warm it up, or clip gradients; check the data for values that are not finite."
    ),
}


def guidance(report: RegimeReport) -> str:
    """Return what the regime calls for.

    The table follows the comparison of optimizers across regimes in Wang et al. 2026, arXiv:2605.29153: L-BFGS and
    Newton methods pay in the well-trained regime, curricula and augmented Lagrangians in the under-trained one, and
    no optimizer helps in the over-trained one.
    """
    sentence = _GUIDANCE[report.label]
    if report.provisional and report.label is Regime.UNDER_TRAINED:
        return f"The loss is still moving: train on before judging. {sentence}"
    return sentence
