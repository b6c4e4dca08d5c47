from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_regimes.dashboard import write_report
from lightning_regimes.dashboard.diagonal_dominance import diagonal_dominance
from lightning_regimes.dashboard.heavy_tails import heavy_tails
from lightning_regimes.dashboard.layer_split import layer_split
from lightning_regimes.dashboard.palette import COLOURS
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView
from lightning_regimes.dashboard.svg import report_style
from lightning_regimes.recording import Journal, Record


def tails(step: int, alphas: list[float], momentum: list[float] | None = None) -> Record:
    finite = [alpha for alpha in alphas if np.isfinite(alpha)] or [np.nan]
    scalars = {
        "heavy_tail/alpha_mean": float(np.mean(finite)),
        "heavy_tail/alpha_min": min(finite),
        "heavy_tail/alpha_max": max(finite),
    }
    arrays = {"heavy_tail/alphas": np.array(alphas)}
    if momentum is not None:
        scalars["heavy_tail/momentum_alpha_mean"] = float(np.nanmean(momentum))
        arrays["heavy_tail/momentum_alphas"] = np.array(momentum)
    names = [f"layers.{index}.weight" for index in range(len(alphas))]
    return Record("heavy_tail", step, step, 0, scalars, {}, arrays, {"matrices": names})


def dominance(step: int, low: float, mean: float, high: float, cosine: float, carrier: str = "momentum") -> Record:
    scalars = {"dominance/r_min": low, "dominance/r_avg": mean, "dominance/r_max": high, "dominance/cosine": cosine}
    return Record("dominance", step, step, 0, scalars, {}, {}, {"carrier": carrier})


def view(directory: Path, *records: Record) -> RunView:
    journal = Journal(directory / "regimes")
    for record in records:
        journal.append(record)
    return RunView(directory)


def panel_of(draw: Callable[[RunView], Panel | None], run: RunView) -> Panel:
    with report_style():
        panel = draw(run)
    assert panel is not None
    return panel


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_tails_over_the_run_and_by_layer(tmp_path: Path) -> None:
    run = view(tmp_path, tails(0, [6.0, 5.0, np.nan]), tails(40, [3.0, 4.0, np.nan], [1.5, 2.5, np.nan]))
    (history, text), (layers, other) = panel_of(heavy_tails, run).pictures
    assert text == "Mean exponent of the weights at 2 steps, from 5.5 to 3.5. That of the momentum goes from 2 to 2."
    assert labels(history) == ["weights, mean", "all layers", "momentum, mean"]
    assert history.axes[0].lines[0].get_xydata().tolist() == [[0.0, 5.5], [40.0, 3.5]]
    assert other == ("Exponents of 3 weight matrices at step 40: from 3 (layers.0.weight) to 4 (layers.1.weight).")
    own, momentum = layers.axes[0].lines
    np.testing.assert_array_equal(own.get_xdata(), [3.0, 4.0, np.nan])
    np.testing.assert_array_equal(momentum.get_xdata(), [1.5, 2.5, np.nan])


def test_tails_of_many_layers_or_without_momentum(tmp_path: Path) -> None:
    (history, _), (layers, text) = panel_of(heavy_tails, view(tmp_path / "many", tails(0, [2.0] * 60))).pictures
    assert labels(history) == ["weights, mean", "all layers"]
    assert len(layers.axes[0].get_yticklabels()) == 40
    assert "60 weight matrices" in text
    assert heavy_tails(view(tmp_path / "none", tails(0, [np.nan]))) is None
    assert heavy_tails(view(tmp_path / "other", dominance(0, 0.5, 2.0, 9.0, 0.4))) is None


def test_dominance_over_the_run(tmp_path: Path) -> None:
    run = view(tmp_path, dominance(0, 0.2, 1.5, 9.0, 0.2, "gradient"), dominance(40, 1.2, 3.5, 30.0, 0.45))
    panel = panel_of(diagonal_dominance, run)
    (ratios, text), (cosine, other) = panel.pictures
    assert text == (
        "Ratio of the diagonal of the Gram matrix of the momentum to the mean beside it at 2 steps; its mean over rows "
        "goes from 1.5 to 3.5."
    )
    assert labels(ratios) == ["largest", "mean", "smallest"]
    assert ratios.axes[0].get_yscale() == "log"
    assert ratios.axes[0].lines[1].get_xydata().tolist() == [[0.0, 1.5], [40.0, 3.5]]
    assert other == "Cosine between the two updates at 2 steps, from 0.20 to 0.45."
    assert cosine.axes[0].lines[0].get_xydata().tolist() == [[0.0, 0.2], [40.0, 0.45]]
    mixed = panel_of(diagonal_dominance, view(tmp_path / "mixed", dominance(0, 1.0, 2.0, 3.0, np.nan, "mixed")))
    assert len(mixed.pictures) == 1
    assert "for the momentum or gradient V" in mixed.reading
    assert diagonal_dominance(view(tmp_path / "none", tails(0, [2.0]))) is None


def splits(losses: list[list[float]], theory: list[list[float]] | None = None) -> Record:
    arrays = {"layer_split/shares": np.array([0.0, 0.5, 1.0]), "layer_split/losses": np.array(losses)}
    if theory is not None:
        arrays["layer_split/theory_losses"] = np.array(theory)
    context = {"layers": ["first", "second"], "steps": [1, 2]}
    return Record("layer_split", 0, 0, 0, {}, {}, arrays, context)


def test_splits_of_the_learning_rate(tmp_path: Path) -> None:
    rows = [[0.4, 0.5, 0.6], [0.3, 0.2, 0.3]]
    (one, text), (two, other) = panel_of(layer_split, view(tmp_path / "theory", splits(rows, rows))).pictures
    assert text == "Loss after a step from step 0: lowest, 0.4, where first has 0 % of the sum of the learning rates."
    assert "after 2 steps" in other
    assert "has 50 % of" in other
    assert labels(one) == ["measured", "theory", "equal"]
    assert np.asarray(two.axes[0].lines[1].get_ydata()).tolist() == rows[1]
    partly = panel_of(layer_split, view(tmp_path / "partly", splits([[np.nan, 0.5, np.inf], [np.nan] * 3])))
    ((figure, text),) = partly.pictures
    assert labels(figure) == ["measured", "equal"]
    assert "lowest, 0.5" in text
    assert layer_split(view(tmp_path / "none", splits([[np.nan] * 3, [np.inf] * 3]))) is None


@pytest.mark.filterwarnings("error")
def test_report_holds_the_panels_in_the_colours_of_the_page(tmp_path: Path) -> None:
    view(
        tmp_path,
        tails(0, [3.0, np.nan, np.inf], [2.0, 2.0, np.nan]),
        dominance(0, 0.5, 2.0, np.inf, 0.4),
        splits([[1.0] * 3] * 2),
    )
    page = write_report([tmp_path]).read_text()
    for title in ("Tails of the weights&#x27; spectra", "Rows at right angles", "Split of the learning rate"):
        assert f"<h2>{title}</h2>" in page
    assert not [colour for colour in COLOURS if colour.marker in page], "no marker colour is left"
