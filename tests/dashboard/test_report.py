import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from rich.console import Console

from lightning_regimes.dashboard import print_summary, write_report
from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.palette import COLOURS
from lightning_regimes.dashboard.run_view import RunView
from lightning_regimes.dashboard.verdict import _typeset
from lightning_regimes.recording import Journal, Record

STEPS = np.arange(0, 100, 10)
LOSSES = 0.5 * 10.0 ** (-STEPS / 30)
CONTEXT = {
    "reasons": ["loss / reference = 1e-3 <= 0.025: it fits", "<b>bold</b> & co"],
    "guidance": "Nothing has to change.",
    "thresholds": {"fit": 0.025, "error": 0.05},
    "reference_source": "trivial_loss",
    "evidence_source": "reference_error",
}


def regime(step: int, label: str | None = "WELL_TRAINED", **scalars: float) -> Record:
    values = {
        "regime/normalized_loss": 1e-3,
        "regime/reference_loss": 0.5,
        "regime/test_error": 0.02,
        "regime/margin": math.log(2.5),
        "regime/agreement": 1.0,
        "regime/provisional": 0.0,
        "regime/seconds": 0.5,
        "regime/overhead": 0.01,
        "regime/num_evaluations": 3,
    }
    return Record(
        "regime",
        step,
        step,
        1,
        scalars=values | {f"regime/{key}": value for key, value in scalars.items()},
        text={"regime/label": label} if label else {},
        arrays={"regime/loss_history_steps": STEPS, "regime/loss_history": LOSSES},
        context=CONTEXT,
    )


def hessian(step: int) -> Record:
    scalars = {
        "hessian/lambda_1": 100.0 + step,
        "hessian/lambda_2": 10.0,
        "hessian/lambda_min": -1.0,
        "hessian/trace": 150.0,
        "hessian/trace_standard_error": 5.0,
        "hessian/stability_threshold": 2000.0,
        "hessian/sharpness_ratio": (100.0 + step) / 2000,
        "hessian/num_matvecs": 40,
        "hessian/seconds": 1.25,
        "hessian/overhead": 0.03,
    }
    return Record("hessian", step, step, 1, scalars=scalars)


def field(shape: tuple[int, ...] = (4, 6)) -> Record:
    rng = np.random.default_rng(0)
    arrays = {f"field/axis_{axis}": np.linspace(0, 1, size) for axis, size in enumerate(shape[:2])}
    arrays |= {"field/prediction": rng.normal(size=shape), "field/reference": rng.normal(size=shape)}
    return Record("field", 90, 90, 1, scalars={"field/rel_l2": 0.3}, arrays=arrays, context={"axis_names": ["t", "x"]})


def make_run(directory: Path, *records: Record) -> Path:
    journal = Journal(directory / "regimes")
    for record in records or (hessian(0), regime(10, "UNDER_TRAINED"), hessian(50), regime(90), field()):
        journal.append(record)
    return directory


class Page(HTMLParser):
    """Checks that tags are balanced, and collects what there is."""

    VOID = frozenset({"meta", "br", "link", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(*runs: Path, **options: Any) -> Page:
    return Page(write_report(runs, **options).read_text())


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    run = make_run(tmp_path_factory.mktemp("runs") / "experiment" / "run")
    (run / "config.yaml").write_text("model: <script>alert(1)</script>\n")
    return write_report([run]).read_text()


def test_verdict_comes_first_and_says_why(report: str) -> None:
    page = Page(report)
    text = re.sub(r"\s+", " ", page.text)
    assert text.index("Well-trained") < text.index("Nothing has to change.") < text.index("Training loss")
    for part in ("loss / reference = 1e-3 ≤ 0.025: it fits", "<b>bold</b> & co", "× 2.5", "100 %", "experiment/run"):
        assert part in text
    assert {"style": "--regime: var(--well-trained)", "class": "verdict"} in page.named("div")


def test_every_section_is_there(report: str) -> None:
    page = Page(report)
    for title in (
        "Where the run stands",
        "Training loss",
        "Solution",
        "Curvature of the loss",
        "Edge of stability",
        "Trace of the Hessian",
        "What the diagnostics cost",
        "Last values",
        "Configuration",
    ):
        assert title in page.text
    assert "<script>alert(1)</script>" in page.text
    assert not page.named("script")
    assert len(page.named("svg")) == 8
    assert len(page.named("figcaption")) == 6


def test_costs_are_summed(report: str) -> None:
    text = re.sub(r"\s+", " ", Page(report).text)
    assert "hessian22.5 s3 %80 Hessian-vector products" in text
    assert "regime21 s1 %6 evaluations" in text


def test_page_is_self_contained_and_accessible(report: str) -> None:
    page = Page(report)
    assert "http" not in report
    assert "@import" not in report
    assert "url(#" in report, "figures refer to their own clipping paths"
    assert not re.findall(r"url\((?!#)", report)
    for name, attributes in page.tags:
        for key in ("src", "href"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (name, value)
    assert all(attributes["role"] == "img" for attributes in page.named("svg"))
    assert len(page.named("title")) == 1 + len(page.named("svg")), "every figure has a text alternative"
    assert [meta["content"] for meta in page.named("meta") if meta.get("name") == "viewport"]


def test_colours_follow_the_readers_scheme(report: str) -> None:
    assert not [colour for colour in COLOURS if colour.marker in report], "no marker colour is left"
    assert "prefers-color-scheme: dark" in report
    used = set(re.findall(r"var\(--([a-z-]+)\)", report))
    assert used - {"regime"} <= {colour.name for colour in COLOURS}


def test_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    first = write_report([run], output=tmp_path / "first.html").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path", "lines.linewidth": 9}):
        second = write_report([run], output=tmp_path / "second.html").read_bytes()
    assert first == second


def test_users_figure_settings_are_left_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    write_report([make_run(tmp_path)])
    assert dict(matplotlib.rcParams) == before


def test_several_runs_are_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name) for name in ("one", "two")]
    page = page_of(*runs, output=tmp_path / "deep" / "all.html")
    assert [row["id"] for row in page.named("section")] == ["run-0", "run-1"]
    assert [link["href"] for link in page.named("a")] == ["#run-0", "#run-1"]
    assert "Where the runs stand" in page.text


@pytest.mark.parametrize(
    "records",
    [
        [hessian(0)],
        [regime(0, None)],
        [regime(0, "DIVERGED", normalized_loss=math.inf, test_error=math.nan, margin=math.inf)],
        [regime(0, "SOMETHING_NEW")],
        [field((5,))],
        [field((3, 4, 5))],
        [Record("hessian", 0, 0, 0, scalars={"hessian/lambda_1": math.nan, "hessian/trace": math.nan})],
        [Record("regime", 0, 0, 0, scalars={"regime/train_loss": 1.0})],
        [
            Record(
                "regime",
                0,
                0,
                0,
                arrays={"regime/loss_history_steps": np.arange(2), "regime/loss_history": np.array([math.nan, -1])},
            )
        ],
    ],
    ids=["curvature", "unlabelled", "diverged", "new label", "line", "volume", "nan", "bare", "no loss"],
)
def test_sparse_or_broken_records_still_give_a_page(tmp_path: Path, records: list[Record]) -> None:
    assert "Last values" in page_of(make_run(tmp_path, *records)).text


def alignment(step: int, *, dominant: float = 0.3) -> Record:
    scalars = {
        "alignment/theta": 0.25 + step / 100,
        "alignment/chance": 0.01,
        "alignment/critical_loss_step_size_dominant": dominant,
        "alignment/critical_loss_step_size_bulk": 1.5,
        "alignment/step_size": 0.2,
    }
    return Record("alignment", step, step, 0, scalars=scalars)


def test_alignment_has_its_panels_with_the_numbers_for_those_who_cannot_see_them(tmp_path: Path) -> None:
    follow_up = Record("alignment", 1, 1, 0, scalars={"alignment/theta_update": 0.4})
    page = page_of(make_run(tmp_path / "finite", alignment(0), follow_up, alignment(50, dominant=0.4)))
    assert "Alignment with the dominant eigenvectors" in page.text
    assert "at 2 steps, from 0.25 to 0.75" in page.text
    assert "0.4 within the dominant subspace and 1.5 in the rest" in page.text
    # Without positive curvature there is no largest step size.
    unbounded = page_of(make_run(tmp_path / "unbounded", alignment(0, dominant=float("inf"))))
    assert "Alignment with the dominant eigenvectors" in unbounded.text
    assert "Step sizes that lower the loss" not in unbounded.text


def projection(step: int, active: float) -> Record:
    scalars = {"projection/chi": step / 100, "projection/chi_average": step / 200, "projection/active": active}
    return Record("projection", step, step, 0, scalars=scalars)


def test_projection_has_a_panel_that_tells_the_switch(tmp_path: Path) -> None:
    text = page_of(make_run(tmp_path / "on", projection(20, 0.0), projection(60, 1.0), projection(90, 1.0))).text
    assert "χ at 3 steps, from 0.20 to 0.90; updates were projected from step 60 on." in text
    text = page_of(make_run(tmp_path / "off", projection(20, 0.0))).text
    assert "χ at 1 steps, from 0.20 to 0.20; updates were never projected." in text


def density(step: int, largest: float) -> Record:
    nodes = np.array([[-0.1, 0.0, 0.2, largest], [-0.1, 0.0, 0.3, largest]])
    arrays = {"hessian/density_nodes": nodes, "hessian/density_weights": np.full((2, 4), 0.25)}
    return Record("hessian", step, step, 0, arrays=arrays)


def test_densities_become_a_map_over_the_run_and_a_curve_of_the_last(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "several", density(0, 10.0), density(5, 200.0), density(20, 30.0)))
    assert "at 3 steps; the largest goes from 10 to 30." in page.text
    assert "at step 20; they reach from -0.1 to 30." in page.text
    assert "linear within ±0.2" in page.text
    assert len(page.named("svg")) == 2
    single = page_of(make_run(tmp_path / "one", density(7, 5.0)))
    assert "they reach from -0.1 to 5." in single.text
    assert len(single.named("svg")) == 1
    flat = Record(
        "hessian",
        0,
        0,
        0,
        arrays={"hessian/density_nodes": np.zeros((2, 3)), "hessian/density_weights": np.full((2, 3), 1 / 3)},
    )
    assert "they reach from 0 to 0." in page_of(make_run(tmp_path / "flat", flat)).text


def test_unjudged_run_says_how_to_get_a_verdict(tmp_path: Path) -> None:
    assert "add RegimeDetection to its callbacks" in page_of(make_run(tmp_path, hessian(0))).text


def test_a_run_without_records_is_left_out_among_others(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", hessian(0))
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="Left out of the report: .*empty"):
        assert "Last values" in page_of(whole, tmp_path / "empty", output=tmp_path / "out.html").text


def test_run_without_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no records"):
        write_report([tmp_path])
    (tmp_path / "regimes").mkdir()
    (tmp_path / "regimes" / "records.jsonl").touch()
    with pytest.raises(ValueError, match="did training start"):
        write_report([tmp_path])
    with pytest.raises(ValueError, match="at least one"):
        write_report([])


def test_series_is_sorted_and_takes_the_last_measurement_of_a_step(tmp_path: Path) -> None:
    run = RunView(make_run(tmp_path, hessian(10), hessian(0), hessian(10)))
    steps, values = run.series("hessian/lambda_1")
    assert steps.tolist() == [0, 10]
    assert values.tolist() == [100.0, 110.0]
    assert run.eigenvalue_keys() == ["hessian/lambda_1", "hessian/lambda_2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (3.0, "3"),
        (0.012345, "0.0123"),
        (-2.5, "−2.5"),
        (13029.0, "13\u202f029"),
        (4.2e-6, "4.2×10⁻⁶"),
        (-1e7, "−1×10⁷"),
        (math.inf, "∞"),
        (math.nan, "not a number"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert short(value) == text


def test_reasons_write_numbers_as_the_tiles_do() -> None:
    assert _typeset("loss = 4.52e-05 <= 0.025: it fits") == "loss = 4.52×10⁻⁵ ≤ 0.025: it fits"
    assert _typeset("1e+12 >= 1") == "1×10¹² ≥ 1"
    assert _typeset("width 2e, see v1e-05x") == "width 2e, see v1e-05x"


def test_the_costs_fill_the_place_beside_an_odd_panel(tmp_path: Path) -> None:
    # One narrow panel, then two: of the trace, and of the curvature and the trace.
    trace = Record("hessian", 0, 0, 0, scalars={"hessian/trace": 1.0})
    both = Record("hessian", 0, 0, 0, scalars={"hessian/trace": 1.0, "hessian/lambda_1": 1.0})
    for name, record, wide in (("odd", trace, False), ("even", both, True)):
        text = write_report([make_run(tmp_path / name, record)]).read_text()
        panels = text.count('<figure class="panel">')
        assert (panels % 2 == 0) == wide
        assert f'<div class="panel{" wide" if wide else ""}"><h2>What the diagnostics cost' in text


def test_an_error_that_is_that_of_the_field_is_told_once(tmp_path: Path) -> None:
    run = make_run(tmp_path, regime(90, test_error=0.30001), field())
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_summary(run, title="experiment", console=console)
    text = console.export_text()
    assert "rel-L2  0.3" in text
    assert not re.search(r"^│ error", text, re.MULTILINE)


def test_summary_names_regime_numbers_and_paths(tmp_path: Path) -> None:
    run = make_run(tmp_path / ("r" * 40))
    (run / "report.html").touch()
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_summary(run, title="experiment", console=console)
    text = console.export_text()
    for part in ("WELL_TRAINED", "150", "0.02", f"{run}/report.html", f"{run}/regimes/records.jsonl"):
        assert part in text
    assert "checkpoint" not in text


def without_the_solution(record: Record, **arrays: np.ndarray) -> Record:
    kept = {name: record.arrays[name] for name in ("field/axis_0", "field/axis_1", "field/prediction")}
    return replace(record, scalars={}, arrays=kept | arrays)


def estimated(step: int, estimate: float) -> Record:
    record = regime(step, "OVER_TRAINED", estimated_error=estimate)
    scalars = {key: value for key, value in record.scalars.items() if key != "regime/test_error"}
    return replace(record, scalars=scalars)


def test_where_the_solution_is_not_known_the_estimate_is_shown(tmp_path: Path) -> None:
    error = {"field/estimated_error": np.linspace(-0.25, 0.5, 24).reshape(4, 6)}
    page = page_of(
        make_run(tmp_path / "run", estimated(10, 0.4), estimated(90, 0.08), without_the_solution(field(), **error))
    )
    assert "estimated error; generalizes at 0.05 or less" in page.text
    assert "The solution is not known; the error is estimated" in page.text
    smallest = np.abs(error["field/estimated_error"]).min()
    assert f"Estimated absolute error, between {smallest:.3g} and 0.5." in page.text
    assert "Map of training loss against estimated error" in page.text
    blind = page_of(make_run(tmp_path / "blind", estimated(90, 0.08), without_the_solution(field())))
    assert "there is no estimate of the error" in blind.text


def test_the_summary_tells_an_estimate_where_the_error_is_not_known(tmp_path: Path) -> None:
    console = Console(width=60, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_summary(make_run(tmp_path, estimated(90, 0.08)), title="experiment", console=console)
    assert re.search(r"^│ estimated error +0\.08", console.export_text(), re.MULTILINE)


def test_runs_are_compared_by_one_kind_of_evidence(tmp_path: Path) -> None:
    page = page_of(make_run(tmp_path / "a", regime(90)), make_run(tmp_path / "b", estimated(90, 0.08)))
    where = page.text.partition("Map of training loss against error, with the four regimes: ")[2]
    assert where.partition("\n")[0].endswith("/a is well-trained.")
    left_out = page.text.partition("Judged by another number, and not shown: ")[2]
    assert left_out.partition("\n")[0].strip().endswith("/b.")
