"""What an offline W&B run holds after a few records, read back from its file."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger

from lightning_regimes.dashboard import WandbRun
from lightning_regimes.recording import VOCABULARY, Record, Table, describe
from lightning_regimes.recording.wandb_charts import SpectrumChart
from lightning_regimes.recording.wandb_surface import log_surface
from lightning_regimes.recording.wandb_tables import GrowingTables
from lightning_regimes.recording.wandb_writer import write_wandb

NODES = np.array([[-1.0, 0.0, 2.0, 7.0], [-1.0, 0.0, 1.0, 7.0]])
WEIGHTS = np.array([[0.1, 0.6, 0.2, 0.1], [0.2, 0.5, 0.2, 0.1]])


def spectrum(step: int) -> Record:
    values = np.array([5.0 + step, 2.0, np.nan])
    rows = [(index, float(value), 1e-4) for index, value in enumerate(values[:2], start=1)]
    return Record(
        "hessian",
        step,
        step,
        0,
        scalars={"hessian/lambda_1": 5.0 + step, "hessian/seconds": 3.0 - step, "hessian/converged": float(step % 2)},
        arrays={
            "hessian/eigenvalues": values,
            "hessian/density_nodes": NODES,
            "hessian/density_weights": WEIGHTS,
        },
        histograms=("hessian/eigenvalues",),
        tables={"hessian/eigenpairs": Table(("index", "eigenvalue", "relative residual"), rows)},
    )


def verdict(step: int, label: str) -> Record:
    return Record(
        "regime",
        step,
        step,
        0,
        scalars={"regime/normalized_loss": 0.5 - step / 10, "regime/margin": 1.0},
        text={"regime/label": label},
        context={"reasons": ["because"], "guidance": "Go on."},
        tables={"regime/evidence": Table(("quantity", "value"), [("loss", 0.5)])},
    )


def surface(step: int) -> Record:
    arrays = {"landscape/values": np.arange(9.0).reshape(3, 3), "landscape/axis_1": np.linspace(-1, 1, 3)}
    return Record("landscape", step, step, 0, scalars={"landscape/points": 3.0}, arrays=arrays)


RECORDS = [
    *(spectrum(step) for step in range(3)),
    verdict(0, "UNDER_TRAINED"),
    verdict(1, "UNDER_TRAINED"),
    verdict(2, "WELL_TRAINED"),
    verdict(3, "DIVERGED"),
    surface(2),
]


@dataclass(frozen=True)
class Written:
    run: WandbRun
    folder: Path
    summary: dict[str, Any]

    def values(self, key: str) -> list[Any]:
        return [row[key] for row in self.run.history if key in row]

    def tables(self, key: str) -> list[dict[str, Any]]:
        return [json.loads((self.folder / "files" / value["path"]).read_text()) for value in self.values(key)]

    def grown(self, key: str) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows of all increments."""
        tables = self.tables(key)
        assert all(table["columns"] == tables[0]["columns"] for table in tables)
        return tables[0]["columns"], [row for table in tables for row in table["data"]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, read_finished_run: Callable[[Path], WandbRun]) -> Written:
    folder = tmp_path_factory.mktemp("wandb_writer")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_MODE": "offline"}.items():
            patch.setenv(name, value)
        patch.setenv("WANDB_DATA_DIR", str(folder / "data"))
        logger = WandbLogger(save_dir=folder, offline=True)
        for record in RECORDS:
            write_wandb(logger, record, {})
        summary = logger.experiment.summary._as_dict()
        wandb.finish()
    (file,) = folder.glob("wandb/offline-run-*/*.wandb")
    return Written(read_finished_run(file), file.parent, summary)


def test_rows_hold_the_values_under_the_steps_of_the_records(written: Written) -> None:
    rows = [row for row in written.run.history if "hessian/lambda_1" in row]
    assert [(row["trainer/global_step"], row["hessian/lambda_1"]) for row in rows] == [(s, 5.0 + s) for s in range(3)]
    assert written.values("regime/label") == ["UNDER_TRAINED", "UNDER_TRAINED", "WELL_TRAINED", "DIVERGED"]


def test_every_key_is_in_the_vocabulary(written: Written) -> None:
    keys = {key for row in written.run.history for key in row if not key.startswith(("_", "trainer/"))}
    for key in keys:
        assert describe(key).meaning
    assert {"hessian/spectra", "regime/verdicts"} <= VOCABULARY.keys()


def test_summaries_follow_the_direction_of_the_vocabulary(written: Written) -> None:
    assert written.run.summarized["hessian/seconds"] == {"min", "last"}
    assert written.run.summarized["hessian/converged"] == {"max", "last"}
    assert "hessian/lambda_1" not in written.run.summarized, "neither direction is better"
    assert written.summary["hessian/seconds"] == {"min": 1.0, "last": 1.0}
    assert written.summary["hessian/converged"] == {"max": 1.0, "last": 0.0}
    assert written.summary["hessian/lambda_1"] == 7.0


def test_tables_grow_with_a_column_for_the_step(written: Written) -> None:
    columns, rows = written.grown("hessian/eigenpairs")
    assert columns == ["step", "index", "eigenvalue", "relative residual"]
    assert rows == [[step, i, v, 1e-4] for step in range(3) for i, v in ((1, 5.0 + step), (2, 2.0))]
    assert [value["_type"] for value in written.values("hessian/eigenpairs")] == ["incremental-table-file"] * 3
    columns, rows = written.grown("regime/verdicts")
    column = {name: [row[index] for row in rows] for index, name in enumerate(columns)}
    assert column["regime"] == ["UNDER_TRAINED", "UNDER_TRAINED", "WELL_TRAINED", "DIVERGED"]
    assert column["loss / reference"] == [0.5, 0.4, 0.3, 0.2]
    assert column["guidance"] == ["Go on."] * 4
    assert column["error"] == [None] * 4


def test_spectra_are_a_line_a_step(written: Written) -> None:
    chart = written.run.config["_wandb"]["visualize"]["hessian/spectra"]["panel_config"]
    assert chart["panelDefId"] == "wandb/lineseries/v0", "W&B's own preset, which needs no template on the server"
    table = written.tables("hessian/spectra_table")[-1]
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in table["data"]:
        point = dict(zip(table["columns"], row, strict=True))
        lines.setdefault(point["lineKey"], []).append((point["step"], point["lineVal"]))
    assert lines == {f"step {step}": [(1, 5.0 + step), (2, 2.0)] for step in range(3)}


def test_the_density_is_a_histogram_that_holds_all_eigenvalues(written: Written) -> None:
    for histogram in written.values("hessian/density"):
        assert sum(histogram["values"]) == pytest.approx(1.0)
        bins = np.asarray(histogram["bins"])
        shares = np.asarray(histogram["values"])
        assert shares[np.searchsorted(bins, 7.0) - 1] == pytest.approx(0.1)
        assert shares[np.searchsorted(bins, -1.0, side="right") - 1] == pytest.approx(0.15)


def test_alerts_come_once_each_and_offline_too(written: Written) -> None:
    assert [(alert["title"], alert["level"]) for alert in written.run.alerts] == [
        ("Training is now well-trained, it was under-trained", "INFO"),
        ("Training diverged", "ERROR"),
    ]
    assert "because" in written.run.alerts[0]["text"]


def test_surfaces_are_artifacts(written: Written) -> None:
    (artifact,) = [artifact for artifact in written.run.artifacts if artifact["type"] == "loss-surface"]
    assert artifact["paths"] == ["surface.npz"]
    assert sorted(artifact["aliases"]) == ["latest", "step-2"]


def test_a_surface_comes_with_its_axes_and_its_numbers() -> None:
    logged: list[tuple[Any, list[str]]] = []
    run = SimpleNamespace(id="run", log_artifact=lambda artifact, aliases: logged.append((artifact, aliases)))
    log_surface(run, surface(2))
    log_surface(run, verdict(3, "DIVERGED"))
    ((artifact, _),) = logged
    assert artifact.metadata == {"step": 2, "global_step": 2, "landscape/points": 3.0}
    with np.load(artifact.manifest.entries["surface.npz"].local_path) as arrays:
        assert np.array_equal(arrays["values"], np.arange(9.0).reshape(3, 3))
        assert np.array_equal(arrays["axis_1"], [-1.0, 0.0, 1.0])


def test_rows_of_a_long_table_are_logged_together(tmp_path: Path) -> None:
    tables = GrowingTables()
    row = Table(("value",), [(1.0,)])
    logged = [grown for step in range(1000) if (grown := tables.grow("regime/evidence", step, row)) is not None]
    assert len(logged) < 250
    assert len(logged[-1].data) >= 980


def test_a_table_of_other_columns_begins_anew() -> None:
    tables = GrowingTables()
    first = tables.grow("regime/evidence", 0, Table(("value",), [(1.0,)]))
    second = tables.grow("regime/evidence", 1, Table(("value", "low"), [(1.0, True)]))
    assert first is not second
    assert second is not None
    assert second.data == [[1, 1.0, True]]


def test_spectra_are_thinned_out_and_keep_the_first_and_the_last() -> None:
    chart = SpectrumChart()
    for step in range(100):
        drawn = chart.draw(spectrum(step))
    keys = {row[1] for row in drawn["hessian/spectra"].table.data}
    assert {"step 0", "step 99"} <= keys
    assert len(keys) <= 12


def test_a_run_that_is_disabled_takes_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    try:
        logger = WandbLogger(save_dir=tmp_path)
        for record in RECORDS:
            write_wandb(logger, record, {})
    finally:
        wandb.finish()


@pytest.fixture(autouse=True, scope="module")
def no_open_run() -> Iterator[None]:
    yield
    wandb.finish()
