import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_regimes.regimes import Regime, RegimeThresholds, classify, guidance, loss_trend

# Convection equation, tanh network 2-32-32-32-1, 600 iterations of L-BFGS: normalized loss, normalized held-out loss,
# relative L2 error and the label a person gives, for coefficients 1, 10, 20, 30, 50 and 50, 200, 1000 points.
CELLS = [
    (9.2e-6, 1.8e-4, 0.0070, "WELL_TRAINED"),
    (1.2e-5, 4.6e-5, 0.0018, "WELL_TRAINED"),
    (1.6e-5, 1.5e-5, 0.0026, "WELL_TRAINED"),
    (1.8e-3, 54.0, 0.90, "OVER_TRAINED"),
    (7.3e-3, 121.0, 1.14, "OVER_TRAINED"),
    (2.3e-4, 2.3e-4, 0.0137, "WELL_TRAINED"),
    (1.6e-3, 182.0, 1.56, "OVER_TRAINED"),
    (0.144, 0.29, 0.83, "UNDER_TRAINED"),
    (0.156, 0.16, 0.84, "UNDER_TRAINED"),
    (8.2e-3, 297.0, 1.94, "OVER_TRAINED"),
    (0.138, 0.44, 0.94, "UNDER_TRAINED"),
    (0.149, 0.16, 0.94, "UNDER_TRAINED"),
    (0.30, 838.0, 4.79, "UNDER_TRAINED"),
    (0.51, 0.52, 1.07, "UNDER_TRAINED"),
    (0.50, 0.52, 1.13, "UNDER_TRAINED"),
]

losses = st.floats(1e-9, 1.4)
errors = st.floats(1e-6, 10.0)


@pytest.mark.parametrize(("fit", "heldout", "error", "label"), CELLS)
def test_labels_of_a_published_sweep_with_and_without_a_reference(fit, heldout, error, label):
    with_reference = classify(0.5 * fit, reference_loss=0.5, error=error)
    without_reference = classify(0.5 * fit, reference_loss=0.5, heldout_loss=0.5 * heldout)
    assert with_reference.label.name == without_reference.label.name == label
    assert with_reference.agreement == without_reference.agreement == 1.0


@given(loss=losses, error=errors, scale=st.floats(1e-6, 1e6))
def test_label_does_not_depend_on_the_unit_of_the_loss(loss, error, scale):
    report = classify(loss, reference_loss=1.0, error=error)
    scaled = classify(loss * scale, reference_loss=scale, error=error)
    if report.margin > 1e-9:
        assert scaled.label is report.label
    assert scaled.margin == pytest.approx(report.margin, abs=1e-9)


@given(loss=losses, error=errors)
def test_margin_is_the_distance_to_the_nearest_other_label(loss, error):
    report = classify(loss, reference_loss=1.0, error=error)
    inside = math.exp(0.999 * report.margin)
    outside = math.exp(1.001 * report.margin) * (1 + 1e-9)

    def labels(factor):
        candidates = [(loss * factor, error), (loss / factor, error), (loss, error * factor), (loss, error / factor)]
        return {classify(a, reference_loss=1.0, error=b).label for a, b in candidates}

    assert labels(inside) == {report.label}
    assert labels(outside) != {report.label}


def test_agreement_counts_the_nine_perturbed_thresholds():
    # 0.9 * 0.025 lies above 0.8 * 0.025 only: three of nine thresholds call it unfitted.
    report = classify(0.9 * 0.025, reference_loss=1.0, error=1e-3)
    assert report.label is Regime.WELL_TRAINED
    assert report.agreement == pytest.approx(6 / 9)
    assert report.margin == pytest.approx(-math.log(0.9))


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1.6])
def test_a_loss_worse_than_trivial_or_not_finite_is_diverged(loss):
    assert classify(loss, reference_loss=1.0, error=0.01).label is Regime.DIVERGED


def test_large_loss_beside_a_small_error_is_inconsistent_but_a_small_heldout_loss_is_no_error():
    assert classify(0.1, reference_loss=1.0, error=0.01).label is Regime.INCONSISTENT
    assert classify(0.1, reference_loss=1.0, heldout_loss=0.01).label is Regime.UNDER_TRAINED


def test_an_error_that_is_not_finite_does_not_generalize():
    assert classify(1e-4, reference_loss=1.0, error=math.nan).label is Regime.OVER_TRAINED


def test_a_heldout_loss_of_another_scale_has_a_reference_of_its_own():
    losses = {"reference_loss": 1.0, "heldout_loss": 3.0}
    assert classify(1e-4, **losses).label is Regime.OVER_TRAINED
    report = classify(1e-4, **losses, heldout_reference_loss=300.0)
    assert report.label is Regime.WELL_TRAINED
    assert report.normalized_heldout_loss == pytest.approx(0.01)
    with pytest.raises(ValueError, match="`heldout_reference_loss` is a positive finite number, got 0"):
        classify(1e-4, **losses, heldout_reference_loss=0.0)


def test_the_reference_error_decides_over_the_heldout_loss():
    assert classify(1e-4, reference_loss=1.0, error=0.01, heldout_loss=1.0).label is Regime.WELL_TRAINED


def test_evidence_is_needed_only_once_the_data_is_fitted():
    assert classify(0.1, reference_loss=1.0).label is Regime.UNDER_TRAINED
    with pytest.raises(ValueError, match=r"`estimated_error` or `heldout_loss` is needed"):
        classify(0.01, reference_loss=1.0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"loss": 1.0, "reference_loss": 0.0}, "`reference_loss`"),
        ({"loss": 1.0, "reference_loss": math.nan}, "`reference_loss`"),
        ({"loss": -1.0, "reference_loss": 1.0}, "`loss`"),
        ({"loss": 1.0, "reference_loss": 1.0, "error": -0.1}, "`error`"),
    ],
)
def test_unusable_numbers_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        classify(arguments.pop("loss"), **arguments)


@pytest.mark.parametrize("arguments", [{"fit": 0.0}, {"error": -1.0}, {"perturbation": 1.0}, {"fit": 2.0}])
def test_unusable_thresholds_are_named(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        RegimeThresholds(**arguments)


def test_trend_of_a_power_law_and_of_a_settled_noisy_loss():
    steps = np.arange(1, 1001)
    # Medians sit in the middle of the first and last quarter of steps 800..1000.
    assert loss_trend(steps, 1 / steps) == pytest.approx(-np.log10(975.5 / 824.5), abs=2e-3)
    noisy = 0.1 * np.exp(0.3 * np.random.default_rng(0).standard_normal(1000))
    assert abs(loss_trend(steps, noisy)) < 0.1
    assert loss_trend(steps[:5], noisy[:5]) is None
    assert loss_trend(steps, np.full(1000, np.nan)) is None


def test_a_moving_loss_makes_the_label_provisional_and_the_advice_says_so():
    report = classify(0.1, reference_loss=1.0, loss_trend=-0.3)
    assert report.provisional
    assert "factor of 2" in report.reasons[-1]
    assert str(guidance(report)).startswith("The loss is still moving")
    settled = classify(0.1, reference_loss=1.0, loss_trend=-0.05)
    assert not settled.provisional
    assert not str(guidance(settled)).startswith("The loss is still moving")
