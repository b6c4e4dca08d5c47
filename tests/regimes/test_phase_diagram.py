"""The phase diagram of runs with known numbers."""

import csv
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from lightning_regimes.regimes import (
    LoadTemperaturePhase,
    PhaseDiagram,
    Regime,
    RegimeThresholds,
    deceptive_flatness,
    deceptive_sharpness,
    load_temperature_phases,
    phase_boundary,
    rank_correlation,
)

X, Y = "model.problem.beta", "data.num_interior"
LOSS, ERROR, HELDOUT = "regime/normalized_loss", "regime/test_error", "regime/normalized_heldout_loss"
CURVATURE, TRACE = "hessian/lambda_1", "hessian/trace"

# Networks on the convection equation: speed, points, normalized loss and held-out loss, error, λ₁, trace, regime.
CONVECTION = [
    (1, 50, 9.2e-6, 1.8e-4, 0.0070, 2457, 1105, "WELL_TRAINED"),
    (1, 200, 1.2e-5, 4.6e-5, 0.0018, 4413, 4121, "WELL_TRAINED"),
    (1, 1000, 1.6e-5, 1.5e-5, 0.0026, 2863, 2242, "WELL_TRAINED"),
    (10, 50, 1.8e-3, 54, 0.90, 6797, 10242, "OVER_TRAINED"),
    (10, 200, 7.3e-3, 121, 1.14, 23554, 18380, "OVER_TRAINED"),
    (10, 1000, 2.3e-4, 2.3e-4, 0.0137, 1215, 2356, "WELL_TRAINED"),
    (20, 50, 1.6e-3, 182, 1.56, 7622, 11202, "OVER_TRAINED"),
    (20, 200, 0.144, 0.29, 0.83, 2688, 7446, "UNDER_TRAINED"),
    (20, 1000, 0.156, 0.16, 0.84, 1868, 5564, "UNDER_TRAINED"),
    (30, 50, 8.2e-3, 297, 1.94, 9515, 13582, "OVER_TRAINED"),
    (30, 200, 0.138, 0.44, 0.94, 2412, 5074, "UNDER_TRAINED"),
    (30, 1000, 0.149, 0.16, 0.94, 2202, 4647, "UNDER_TRAINED"),
    (50, 50, 0.30, 838, 4.79, 64673, 54560, "UNDER_TRAINED"),
    (50, 200, 0.51, 0.52, 1.07, 27754, 44435, "UNDER_TRAINED"),
    (50, 1000, 0.50, 0.52, 1.13, 22857, 47330, "UNDER_TRAINED"),
]


def convection(*, with_error=True):
    keys = (X, Y, LOSS, HELDOUT, ERROR, CURVATURE, TRACE)
    rows = [dict(zip(keys, cell[:-1], strict=True)) for cell in CONVECTION]
    for row in rows if not with_error else ():
        del row[ERROR]
    return PhaseDiagram(rows, x=X, y=Y)


def test_estimates_take_the_place_of_errors():
    # What the held-out loss would call well-trained in all three; under-trained runs have no estimate.
    estimates = (0.02, 0.08, None)
    rows = [{X: speed, LOSS: 1e-4, HELDOUT: 1e-3} for speed in (1, 2, 4)]
    for row, estimate in zip(rows, estimates, strict=True):
        row |= {} if estimate is None else {"regime/estimated_error": estimate}
    rows[2] |= {LOSS: 0.3, HELDOUT: 0.4}
    diagram = PhaseDiagram(rows, x=X)
    assert diagram.error_key == "regime/estimated_error"
    assert [Regime(label).name for label in diagram.labels[0]] == ["WELL_TRAINED", "OVER_TRAINED", "UNDER_TRAINED"]
    crossing = diagram.boundary(diagram.error_key)
    assert crossing.level == 0.05
    with_errors = PhaseDiagram([{**row, ERROR: 0.01} for row in rows], x=X)
    assert with_errors.error_key == ERROR
    assert Regime(with_errors.labels[0, 1]) is Regime.WELL_TRAINED


def test_the_boundary_of_generalization_has_no_gap_where_only_some_runs_have_an_estimate():
    # In units of their thresholds 0.5, 1.6, 4 and 16: an estimate, a held-out loss, an error, and a held-out loss.
    rows = [
        {X: 1.0, LOSS: 1e-4, HELDOUT: 0.5, "regime/estimated_error": 0.025},
        {X: 2.0, LOSS: 1e-4, HELDOUT: 0.04},
        {X: 4.0, LOSS: 1e-4, HELDOUT: 1e-3, ERROR: 0.2, "regime/estimated_error": 0.001},
        {X: 8.0, LOSS: 1e-4, HELDOUT: 0.4},
    ]
    diagram = PhaseDiagram(rows, x=X)
    boundary = diagram.generalization_boundary()
    assert boundary.level == 1.0
    assert [Regime(label).name for label in diagram.labels[0]] == ["WELL_TRAINED", *["OVER_TRAINED"] * 3]
    between = math.log(1 / 0.5) / math.log(1.6 / 0.5)
    assert boundary.crossings.tolist() == pytest.approx([1 + between])
    assert not np.isfinite(diagram.boundary("regime/estimated_error").crossings).any()


@pytest.mark.parametrize("with_error", [True, False])
def test_labels_of_the_convection_equation(with_error):
    labels = convection(with_error=with_error).labels
    expected = np.array([Regime[cell[-1]] for cell in CONVECTION]).reshape(5, 3).T
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("factors", [(0.8, 0.8), (0.8, 1.2), (1.2, 0.8), (1.2, 1.2)])
def test_labels_do_not_hang_on_the_thresholds(factors):
    moved = RegimeThresholds(fit=0.025 * factors[0], error=0.05 * factors[1])
    diagram = convection()
    np.testing.assert_array_equal(PhaseDiagram(diagram.rows, x=X, y=Y, thresholds=moved).labels, diagram.labels)


def test_curvature_deceives_where_the_table_says_so():
    diagram = convection()
    sharp, flat = diagram.deceptive_sharpness(), diagram.deceptive_flatness()
    assert {(diagram.x_values[j], diagram.y_values[i]) for i, j in zip(*np.nonzero(sharp), strict=True)} == {
        (1, 50),
        (1, 200),
        (1, 1000),
    }
    assert {(diagram.x_values[j], diagram.y_values[i]) for i, j in zip(*np.nonzero(flat), strict=True)} == {
        (20, 200),
        (20, 1000),
        (30, 200),
        (30, 1000),
    }


def test_correlations_are_those_of_scipy():
    diagram = convection()
    found = {(entry.first, entry.second): entry for entry in diagram.correlations()}
    for first in (CURVATURE, TRACE):
        for second in (LOSS, ERROR):
            truth = spearmanr([row[first] for row in diagram.rows], [row[second] for row in diagram.rows])
            assert found[first, second].coefficient == pytest.approx(truth.statistic)
            assert found[first, second].num_runs == 15
    # λ₁ follows the loss much less than the error, and the trace follows both better.
    assert found[CURVATURE, LOSS].coefficient == pytest.approx(0.34, abs=0.01)
    assert found[CURVATURE, ERROR].coefficient == pytest.approx(0.65, abs=0.01)
    assert found[TRACE, ERROR].coefficient == pytest.approx(0.85, abs=0.01)


def test_a_quantity_that_never_changes_has_no_correlation():
    rows = [{"a": 1.0, "b": float(n)} for n in range(4)]
    assert math.isnan(rank_correlation(rows, "a", "b").coefficient)
    assert rank_correlation(rows[:2], "a", "b") is None


@given(
    st.floats(0.2, 3),
    st.floats(-2, 2),
    st.floats(0.3, 30),
)
def test_boundary_of_a_power_law_is_a_straight_line(p, q, x0):
    # On logarithmic axes the logarithm of c xᵖ y^q is linear, which interpolation gets exactly.
    x, y = np.log10([0.1, 0.5, 2, 10, 100]), np.log10([1.0, 3, 10, 100])
    values = 0.025 * 10 ** (p * (x[None, :] - np.log10(x0)) + q * y[:, None])
    boundary = phase_boundary("loss", values, x, y, level=0.025)
    for line in boundary.lines:
        np.testing.assert_allclose(p * (line[:, 0] - np.log10(x0)) + q * line[:, 1], 0, atol=1e-9)
    for lines, factor in ((boundary.lower, 0.8), (boundary.upper, 1.2)):
        for line in lines:
            np.testing.assert_allclose(p * (line[:, 0] - np.log10(x0)) + q * line[:, 1], np.log10(factor), atol=1e-9)
    exact = np.log10(x0) - q * y / p
    inside = (exact > x[0]) & (exact < x[-1])
    np.testing.assert_allclose(boundary.crossings[inside], exact[inside], atol=1e-9)
    outside = (exact < x[0] - 1e-9) | (exact > x[-1] + 1e-9)
    assert np.isnan(boundary.crossings[outside]).all()


def test_boundary_passes_between_fitted_and_diverged_cells_and_spares_missing_ones():
    values = np.array([[1e-3, np.inf, np.nan], [1e-3, 1.0, 1.0]])
    boundary = phase_boundary("loss", values, np.arange(3.0), np.arange(2.0), level=0.025)
    (line,) = boundary.lines
    assert ((line[:, 0] > 0) & (line[:, 0] < 1)).all()
    # The diverged cell counts as ten times the largest number, 10.
    assert boundary.crossings[0] == pytest.approx(math.log(25) / math.log(1e4))
    assert boundary.crossings[1] == pytest.approx(math.log(25) / math.log(1e3))


def test_seeds_are_averaged_geometrically_and_vote():
    rows = [
        {"x": 1, "seed": 0, LOSS: 1e-4, ERROR: 0.01, CURVATURE: 10.0, "connectivity/mode_connectivity": -0.1},
        {"x": 1, "seed": 1, LOSS: 1e-2, ERROR: 0.04, CURVATURE: 1000.0, "connectivity/mode_connectivity": 0.3},
        {"x": 1, "seed": 2, LOSS: 1e-3, ERROR: 0.20, CURVATURE: math.nan},
        {"x": 2, "seed": 0, LOSS: math.nan, ERROR: math.nan},
    ]
    diagram = PhaseDiagram(rows, x="x", seed="seed")
    assert diagram.shape == (1, 2)
    assert diagram.mean(LOSS)[0, 0] == pytest.approx(1e-3)
    assert diagram.mean(CURVATURE)[0, 0] == pytest.approx(100)
    assert diagram.mean("connectivity/mode_connectivity")[0, 0] == pytest.approx(0.1)
    assert np.isinf(diagram.mean(LOSS)[0, 1])
    assert diagram.labels.tolist() == [[Regime.WELL_TRAINED, Regime.DIVERGED]]
    assert diagram.agreement[0].tolist() == [pytest.approx(2 / 3), 1.0]


def test_a_tie_is_decided_by_the_averages():
    rows = [{"x": 1, LOSS: 1e-3, ERROR: error} for error in (0.02, 0.5)]
    assert PhaseDiagram(rows, x="x").labels.item() == Regime.OVER_TRAINED  # √(0.02 × 0.5) = 0.1


def test_recorded_labels_win_over_numbers():
    row = {"x": 1, LOSS: 1e-3, ERROR: 0.5, "regime/label": "WELL_TRAINED"}
    assert PhaseDiagram([row], x="x").labels.item() == Regime.WELL_TRAINED


def test_order_of_rows_does_not_matter(tmp_path):
    diagram = convection()
    shuffled = PhaseDiagram([diagram.rows[i] for i in np.random.default_rng(0).permutation(15)], x=X, y=Y)
    assert diagram.to_csv(tmp_path / "a.csv").read_bytes() == shuffled.to_csv(tmp_path / "b.csv").read_bytes()
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15
    assert rows[0][X] == "1"
    assert rows[0][Y] == "50"
    assert float(rows[0][LOSS]) == 9.2e-6
    assert rows[0]["label"] == "WELL_TRAINED"
    assert rows[0]["deceptive_sharpness"] == "1"


def test_phases_of_load_and_temperature():
    curvature = np.array([100.0, 100.0, 1.0, 1.0, 1.0, np.nan])
    connectivity = np.array([-0.5, 0.2, -0.5, 0.0, 0.01, 0.0])
    similarity = np.array([0.5, 0.5, 0.5, 0.5, 0.95, 0.9])
    phases = load_temperature_phases(curvature, connectivity, similarity)
    names = [LoadTemperaturePhase(phase).name if phase >= 0 else None for phase in phases]
    assert names == ["I", "II", "III", "IV_A", "IV_B", None]
    rows = [
        {"x": n, CURVATURE: c, "connectivity/mode_connectivity": m, "similarity/cka_mean": s}
        for n, (c, m, s) in enumerate(zip(curvature, connectivity, similarity, strict=True))
    ]
    np.testing.assert_array_equal(PhaseDiagram(rows, x="x").load_temperature_phases()[0], phases)
    with pytest.raises(ValueError, match="connectivity/mode_connectivity"):
        convection().load_temperature_phases()


def test_flags_need_both_kinds_of_runs():
    labels, curvature = [Regime.WELL_TRAINED, Regime.DIVERGED], [5.0, 1.0]
    assert not deceptive_sharpness(labels, curvature).any()
    assert not deceptive_flatness([Regime.UNDER_TRAINED, -1], curvature).any()
    with pytest.raises(ValueError, match="one shape"):
        deceptive_sharpness(labels, [1.0])


def test_figure_shows_regimes_and_every_quantity():
    figure = convection().figure()
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 6
    # Both boundaries are drawn in the first map: points in its data coordinates.
    lines = [line.get_xydata() for line in figure.axes[0].lines]
    assert any(line.shape[1] == 2 and np.all((line[:, 0] >= 0) & (line[:, 0] <= np.log10(50))) for line in lines)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (["[1.0, 2.5]", "[2.5, 5.0]"], ["1.0, 2.5", "2.5, 5.0"]),
        (["lightning_regimes.optim.AdamFactory", "torch.optim.SGD"], ["Adam", "SGD"]),
        (["with_decay", "without"], ["with\ndecay", "without"]),
        ([0.25, 1000], ["0.25", "1000"]),
    ],
)
def test_values_stand_at_the_axis_as_people_read_them(values, texts):
    rows = [{"x": value, "regime/normalized_loss": 0.1, "regime/test_error": 0.1} for value in values]
    labels = PhaseDiagram(rows, x="x").figure().axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == texts


def test_the_runs_stay_out_of_the_representation():
    assert "normalized_loss" not in repr(convection())


def test_missing_parameters_are_named():
    with pytest.raises(ValueError, match="'y'; 1 of 2 lack it"):
        PhaseDiagram([{"x": 1, "y": 2}, {"x": 1}], x="x", y="y")
    with pytest.raises(ValueError, match="at least one run"):
        PhaseDiagram([], x="x")
    with pytest.raises(ValueError, match="have thresholds"):
        convection().boundary(TRACE)
