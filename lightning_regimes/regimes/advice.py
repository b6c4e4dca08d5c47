"""What to do about a regime, in one sentence for each."""

from __future__ import annotations

from lightning_regimes.regimes.classification import Regime, RegimeReport

_GUIDANCE = {
    Regime.WELL_TRAINED: (
        "Nothing has to change. If the error must fall further, a second-order polish (L-BFGS, or a Newton method with "
        "conjugate gradients) gains most from here."
    ),
    Regime.UNDER_TRAINED: (
        "More data will not help. Train longer while the loss still falls; then change the optimizer or its learning "
        "rate, or the difficulty: Adam followed by L-BFGS, a curriculum, constraints by an augmented Lagrangian."
    ),
    Regime.OVER_TRAINED: (
        "A better optimizer will not help. Add or resample data (for a differential equation, collocation points, or "
        "regions in place of points), or regularize."
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
    if report.provisional and report.label in (Regime.UNDER_TRAINED, Regime.OVER_TRAINED):
        return f"The loss is still moving: train on before judging. {sentence}"
    return sentence
