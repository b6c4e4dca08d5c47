"""Which training regime a run is in: a rule on dimensionless numbers, with its margin and its robustness."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt


class Regime(enum.IntEnum):
    """Where a training run stands (Wang et al., "multi-regime" study of scientific machine learning, 2605.29153).

    The order is the one in which plots and logged integers count them.
    """

    WELL_TRAINED = 0
    """Low training loss, low error."""
    UNDER_TRAINED = 1
    """High training loss, high error: limited by optimization."""
    OVER_TRAINED = 2
    """Low training loss, high error: limited by data."""
    INCONSISTENT = 3
    """High training loss, low error: the loss does not measure what the error does."""
    DIVERGED = 4
    """The loss is not finite, or above that of the trivial predictor."""


@dataclass(frozen=True)
class RegimeThresholds:
    """Where "low" ends, for a loss and an error that are both dimensionless.

    Args:
        fit: largest training loss, in units of the reference loss, of a run that fits its data. The default is the
            geometric middle of the gap between fitted and unfitted runs of a physics-informed network on the
            convection equation.
        error: largest error of a run that generalizes; relative L2 norms of 0.03 to 0.07 order runs alike.
        diverged: training loss, in units of the reference loss, above which a run counts as diverged.
        perturbation: relative change of ``fit`` and ``error`` under which the label is tried again.
        trend: change of log10 of the loss over the last fifth of the training above which it has not settled.
    """

    fit: float = 0.025
    error: float = 0.05
    diverged: float = 1.5
    perturbation: float = 0.2
    trend: float = 0.1

    def __post_init__(self) -> None:
        for name in ("fit", "error", "diverged", "trend"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"`{name}` is a positive number, got {value}")
        if not 0 <= self.perturbation < 1:
            raise ValueError(f"`perturbation` lies in [0, 1), got {self.perturbation}")
        if self.fit >= self.diverged:
            raise ValueError(f"`fit` ({self.fit}) lies below `diverged` ({self.diverged})")


@dataclass(frozen=True)
class RegimeReport:
    """A label, how far it is from another one, and what it rests on.

    Attributes:
        label: the regime.
        normalized_loss: training loss over reference loss.
        error: reference error, if there is one.
        normalized_heldout_loss: held-out loss over reference loss, if there is one.
        margin: natural logarithm of the factor by which a deciding number would have to change for another label;
            infinite for a run whose loss is not finite.
        agreement: share of nine labels, under both thresholds times (1 - p), 1, (1 + p), that equal this one.
        provisional: the training loss has not settled, so the label may change with more steps.
        loss_trend: change of log10 of the training loss over the last fifth of the training, if known.
        reasons: the comparisons that led to the label, in words.
        thresholds: the thresholds used.
        estimated_error: an estimate of the error, if there is one.
    """

    label: Regime
    normalized_loss: float
    error: float | None
    normalized_heldout_loss: float | None
    margin: float
    agreement: float
    provisional: bool
    loss_trend: float | None
    reasons: tuple[str, ...]
    thresholds: RegimeThresholds = field(default_factory=RegimeThresholds)
    estimated_error: float | None = None


def classify(
    loss: float,
    *,
    reference_loss: float,
    error: float | None = None,
    estimated_error: float | None = None,
    heldout_loss: float | None = None,
    heldout_reference_loss: float | None = None,
    loss_trend: float | None = None,
    thresholds: RegimeThresholds | None = None,
) -> RegimeReport:
    r"""Return the regime of a run from its training loss and from an error, an estimate of it or a held-out loss.

    With :math:`\ell = L / L_\mathrm{ref}` and the error :math:`e` or its estimate, or without them
    :math:`h = L_\mathrm{held-out} / L_\mathrm{ref}`, diverged if :math:`\ell` is not finite or above
    ``thresholds.diverged``; otherwise fitted if :math:`\ell \le \theta_\mathrm{fit}`, and generalizing if
    :math:`e \le \theta_\mathrm{error}` (or :math:`h \le \theta_\mathrm{fit}`). Fitted and generalizing is well-trained,
    fitted only is over-trained, neither is under-trained, and a small *error* beside a large loss is inconsistent.

    Args:
        loss: training loss, on the data that is trained on.
        reference_loss: the same loss for the trivial predictor (zero for a physics-informed network, the mean of the
            training targets for regression), or at initialization.
        error: dimensionless error against a reference, such as a relative L2 norm or an error rate. It decides when
            several are given.
        estimated_error: an estimate of it, with the same threshold. It decides before the held-out loss.
        heldout_loss: the loss on fresh data, with the same terms and weights as ``loss``.
        heldout_reference_loss: the loss of the trivial predictor on that data; by default ``reference_loss``.
        loss_trend: see :func:`loss_trend`.
        thresholds: defaults to :class:`RegimeThresholds`.

    Raises:
        ValueError: a reference loss is not positive and finite, a given number is negative, or the run fits its
            data and there is no error, estimate or held-out loss to tell well-trained from over-trained.

    Example:
        >>> report = classify(0.003, reference_loss=1.0, error=0.4)
        >>> report.label.name, round(report.margin, 2)
        ('OVER_TRAINED', 2.08)

    References:
        The three regimes: Wang et al. 2026, arXiv:2605.29153. There the thresholds are set by hand for each data
        set; dividing by the loss of the trivial predictor replaces that.
    """
    thresholds = thresholds or RegimeThresholds()
    heldout_reference_loss = reference_loss if heldout_reference_loss is None else heldout_reference_loss
    for name, scale in (("reference_loss", reference_loss), ("heldout_reference_loss", heldout_reference_loss)):
        if not (scale > 0 and math.isfinite(scale)):
            raise ValueError(f"`{name}` is a positive finite number, got {scale}")
    numbers = (("loss", loss), ("error", error), ("estimated_error", estimated_error), ("heldout_loss", heldout_loss))
    for name, value in numbers:
        if value is not None and value < 0:
            raise ValueError(
                f"`{name}` is not negative, got {value}; a loss without a lower bound of zero has no scale"
            )
    fit = loss / reference_loss
    heldout = None if heldout_loss is None else heldout_loss / heldout_reference_loss
    known = estimated_error if error is None else error
    label = _label(fit, known, heldout, thresholds)
    if label is None:
        raise ValueError(
            "the run fits its data; `error`, `estimated_error` or `heldout_loss` is needed to tell well-trained from "
            "over-trained"
        )
    factors = (1 - thresholds.perturbation, 1.0, 1 + thresholds.perturbation)
    labels = [
        _label(fit, known, heldout, replace(thresholds, fit=thresholds.fit * a, error=thresholds.error * b))
        for a in factors
        for b in factors
    ]
    return RegimeReport(
        label=label,
        normalized_loss=fit,
        error=error,
        normalized_heldout_loss=heldout,
        margin=_margin(label, fit, known, heldout, thresholds),
        agreement=labels.count(label) / len(labels),
        provisional=loss_trend is not None and abs(loss_trend) > thresholds.trend and label is not Regime.DIVERGED,
        loss_trend=loss_trend,
        reasons=_reasons(label, fit, error, estimated_error, heldout, loss_trend, thresholds),
        thresholds=thresholds,
        estimated_error=estimated_error,
    )


def loss_trend(steps: npt.ArrayLike, losses: npt.ArrayLike, *, window: float = 0.2) -> float | None:
    r"""Return the change of :math:`\log_{10} L` over the last part of the training.

    The loss at either end of the window is the median over a quarter of it, which noise of minibatches does not move.

    Args:
        steps: increasing step numbers counted from the start of the training, shape (n,).
        losses: training losses at these steps, shape (n,); entries that are not positive and finite are left out.
        window: the part, counted in steps.

    Returns:
        The change, negative while the loss falls; ``None`` with fewer than eight losses in the window.
    """
    x, y = np.asarray(steps, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"`steps` and `losses` are vectors of one length, got shapes {x.shape} and {y.shape}")
    usable = np.isfinite(y) & (y > 0)
    x, y = x[usable], y[usable]
    if x.size == 0:
        return None
    recent = np.log10(y[x >= (1 - window) * x[-1]])
    if recent.size < 8:
        return None
    quarter = recent.size // 4
    return float(np.median(recent[-quarter:]) - np.median(recent[:quarter]))


def _label(fit: float, error: float | None, heldout: float | None, thresholds: RegimeThresholds) -> Regime | None:
    if not math.isfinite(fit) or fit > thresholds.diverged:
        return Regime.DIVERGED
    generalizes = _generalizes(error, heldout, thresholds)
    if fit > thresholds.fit:
        # A held-out loss below the threshold beside a training loss above it says nothing about the error.
        return Regime.INCONSISTENT if error is not None and generalizes else Regime.UNDER_TRAINED
    if generalizes is None:
        return None
    return Regime.WELL_TRAINED if generalizes else Regime.OVER_TRAINED


def _generalizes(error: float | None, heldout: float | None, thresholds: RegimeThresholds) -> bool | None:
    if error is not None:
        return error <= thresholds.error  # false for NaN
    if heldout is not None:
        return heldout <= thresholds.fit
    return None


def _margin(
    label: Regime, fit: float, error: float | None, heldout: float | None, thresholds: RegimeThresholds
) -> float:
    if not math.isfinite(fit):
        return math.inf
    if label is Regime.DIVERGED:
        return _distance(fit, thresholds.diverged)
    evidence = (error, thresholds.error) if error is not None else (heldout, thresholds.fit)
    distances = [_distance(fit, thresholds.fit)]
    if fit > thresholds.fit:
        distances.append(_distance(fit, thresholds.diverged))
    if evidence[0] is not None and (label is not Regime.UNDER_TRAINED or error is not None):
        distances.append(_distance(*evidence))
    return min(distances)


def _distance(value: float | None, threshold: float) -> float:
    if value is None or not math.isfinite(value) or value == 0:
        return math.inf
    return abs(math.log(value / threshold))


def _reasons(
    label: Regime,
    fit: float,
    error: float | None,
    estimated_error: float | None,
    heldout: float | None,
    trend: float | None,
    thresholds: RegimeThresholds,
) -> tuple[str, ...]:
    def compare(value: float, threshold: float) -> str:
        return f"{value:.3g} {'≤' if value <= threshold else '>'} {threshold:.3g}"

    if not math.isfinite(fit):
        return (f"the training loss is not finite ({fit})",)
    if label is Regime.DIVERGED:
        return (
            f"training loss / reference loss = {compare(fit, thresholds.diverged)}: worse than the trivial predictor",
        )
    fitted = "the data is fitted" if fit <= thresholds.fit else "the data is not fitted"
    reasons = [f"training loss / reference loss = {compare(fit, thresholds.fit)}: {fitted}"]
    known = estimated_error if error is None else error
    if known is not None:
        name = "estimated error" if error is None else "error"
        good = "it generalizes" if known <= thresholds.error else "it does not generalize"
        reasons.append(f"{name} = {compare(known, thresholds.error)}: {good}")
    elif heldout is not None:
        good = "it generalizes" if heldout <= thresholds.fit else "it does not generalize"
        reasons.append(f"held-out loss / reference loss = {compare(heldout, thresholds.fit)}: {good}")
    if trend is not None and abs(trend) > thresholds.trend:
        direction = "fell" if trend < 0 else "rose"
        reasons.append(f"the loss {direction} by a factor of {10 ** abs(trend):.2g} over the last fifth: provisional")
    return tuple(reasons)
