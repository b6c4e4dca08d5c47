"""Several runs on one page."""

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from lightning_regimes.dashboard import write_report
from lightning_regimes.dashboard.comparison import (
    error_comparison,
    loss_comparison,
    sharpness_comparison,
    stability_comparison,
)
from lightning_regimes.dashboard.palette import COLOURS, PAGE, REGIMES, SERIES, SURFACE
from lightning_regimes.dashboard.run_view import RunView, short_names
from lightning_regimes.dashboard.svg import report_style
from lightning_regimes.recording import Journal, Record


def make_run(directory: Path, *, factor: float = 1.0, label: str = "WELL_TRAINED") -> Path:
    journal = Journal(directory / "regimes")
    steps = np.arange(0, 1000, 2)
    for step in (0, 500, 998):
        scalars = {"hessian/lambda_1": factor * (10.0 + step), "hessian/sharpness_ratio": 0.9}
        journal.append(Record("hessian", step, step, 0, scalars=scalars))
        journal.append(
            Record(
                "regime",
                step,
                step,
                0,
                scalars={
                    "regime/normalized_loss": factor / (step + 2),
                    "regime/reference_loss": 0.5,
                    "regime/test_error": 0.3 / (step + 1),
                    "regime/margin": math.log(2.5),
                },
                text={"regime/label": label},
                arrays={
                    "regime/loss_history_steps": steps,
                    "regime/loss_history": factor / (steps + 2.0),
                },
                context={"thresholds": {"fit": 0.025, "error": 0.05}},
            )
        )
    return directory


@pytest.fixture
def two(tmp_path: Path) -> list[RunView]:
    return [RunView(make_run(tmp_path / name, factor=factor)) for name, factor in (("one", 1.0), ("two", 1000.0))]


def test_losses_are_drawn_over_their_references(two: list[RunView]) -> None:
    with report_style():
        panel = loss_comparison(two)
    assert panel is not None
    axes = panel.pictures[0][0].axes[0]
    first, second, threshold = axes.lines
    assert first.get_xdata()[[0, -1]].tolist() == [0, 998]
    assert len(first.get_xdata()) == 200, "of a long history, so many points"
    assert first.get_ydata()[0] == pytest.approx(0.5 / 0.5)
    assert second.get_ydata()[-1] == pytest.approx(1000 / 1000 / 0.5)
    assert threshold.get_ydata()[0] == 0.025
    assert axes.get_yscale() == "log"
    assert [line.get_color() for line in (first, second)] == [colour.marker for colour in SERIES[:2]]
    assert "two ends at 2" in panel.pictures[0][1]


def test_the_other_quantities_are_drawn_over_the_steps(two: list[RunView]) -> None:
    with report_style():
        sharpness, error, stability = sharpness_comparison(two), error_comparison(two), stability_comparison(two)
    assert sharpness is not None
    assert error is not None
    assert stability is not None
    assert sharpness.pictures[0][0].axes[0].lines[1].get_ydata().tolist() == [1e4, 5.1e5, 1.008e6]
    assert error.pictures[0][0].axes[0].lines[0].get_ydata().tolist() == [0.3, 0.3 / 501, 0.3 / 999]
    axes = stability.pictures[0][0].axes[0]
    assert axes.get_yscale() == "linear", "a logarithmic axis would have a single label"
    assert axes.lines[-1].get_ydata()[0] == 1.0


def test_estimates_stand_in_for_errors_that_are_not_known(two: list[RunView], tmp_path: Path) -> None:
    journal = Journal(tmp_path / "blind" / "regimes")
    for step in (0, 500):
        journal.append(Record("regime", step, step, 0, scalars={"regime/estimated_error": 0.5 / (step + 1)}))
    with report_style():
        panel = error_comparison([two[0], RunView(tmp_path / "blind")])
    assert panel is not None
    assert panel.pictures[0][0].axes[0].lines[1].get_ydata().tolist() == [0.5, 0.5 / 501]
    assert "errors are estimates: 2." in panel.reading
    both = error_comparison(two)
    assert both is not None
    assert "estimates" not in both.reading


def test_a_single_line_is_no_comparison(two: list[RunView], tmp_path: Path) -> None:
    Journal(tmp_path / "bare" / "regimes").append(Record("hessian", 0, 0, 0, scalars={"hessian/trace": math.nan}))
    assert sharpness_comparison([two[0], RunView(tmp_path / "bare")]) is None


def test_many_runs_have_the_colour_of_their_regime(tmp_path: Path) -> None:
    labels = ["WELL_TRAINED"] * 4 + ["DIVERGED"] * 3
    runs = [RunView(make_run(tmp_path / str(index), label=label)) for index, label in enumerate(labels)]
    with report_style():
        panel = error_comparison(runs)
    assert panel is not None
    colours = [line.get_color() for line in panel.pictures[0][0].axes[0].lines]
    assert colours == [REGIMES["well-trained"].marker] * 4 + [REGIMES["diverged"].marker] * 3
    assert "colour of the regime" in panel.reading


def test_few_runs_are_shown_in_full_and_many_side_by_side(tmp_path: Path) -> None:
    make_run(tmp_path / "run00")
    runs = [tmp_path / f"run{index:02d}" for index in range(20)]
    for run in runs[1:]:
        shutil.copytree(runs[0], run)
    (runs[0] / "config.yaml").write_text("model: MLP\n")
    page = write_report(runs, output=tmp_path / "all.html").read_text()
    assert page.count("<svg") == 5, "one picture for all runs together of each kind"
    assert len(page.encode()) < 3_000_000
    assert page.count('<section class="run"') == page.count('class="verdict"') == 20
    assert page.count("<summary>Costs and values</summary>") == 20
    assert f"lightning-regimes report {runs[3]}" in page
    assert "http" not in page
    few = write_report(runs[:4], output=tmp_path / "few.html").read_text()
    assert few.count("<svg") > 4 * 4
    assert "Costs and values" not in few


def test_names_are_as_short_as_tells_them_apart(tmp_path: Path) -> None:
    def names(*directories: str) -> list[str]:
        return short_names([RunView(make_run(tmp_path / directory)) for directory in directories])

    assert names("pinn/a", "fno/a") == ["pinn", "fno"]
    assert names("pinn/a", "pinn/b") == ["a", "b"]
    assert names("pinn/a", "pinn/b", "fno/a") == ["pinn/a", "pinn/b", "fno/a"]
    morning, noon = "20261125-080102-ab12", "20261125-120000-cd34"
    assert names(f"pinn/{morning}", f"pinn/{noon}") == ["08:01:02", "12:00:00"]
    assert names(f"pinn/{morning}", "pinn/20261126-080102-ab12") == [morning, "20261126-080102-ab12"]


def luminance(colour: str) -> float:
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.03928 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_whatever_is_written_can_be_read(mode: str) -> None:
    # WCAG 2.2, 1.4.3: text of any size has a contrast of 4.5 : 1.
    for colour in COLOURS:
        if colour.name in ("grid", "page", "surface"):
            continue
        for ground in (PAGE, SURFACE):
            low, high = sorted((luminance(getattr(colour, mode)), luminance(getattr(ground, mode))))
            assert (high + 0.05) / (low + 0.05) >= 4.5, f"{colour.name} on {ground.name}"


def test_tables_can_be_scrolled_and_heard(tmp_path: Path) -> None:
    page = write_report([make_run(tmp_path)]).read_text()
    assert page.count("<th") - page.count("<thead") == page.count('<th scope="col"')
    assert page.count('class="scroll"') == page.count('class="scroll" tabindex="0"')
    assert re.search(r"<svg role=\"img\"[^>]*><title>[^<]{20,}</title>", page)
