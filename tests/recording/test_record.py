from typing import Any

import numpy as np
import pytest
import torch

from lightning_regimes.recording import Journal, Record, Table, read_records


def record(**content: Any) -> Record:
    return Record(diagnostic="hessian", step=0, global_step=0, epoch=0, **content)


@pytest.mark.parametrize("content", ["scalars", "text", "arrays", "figures"])
def test_unknown_key_is_refused(content: str) -> None:
    with pytest.raises(ValueError, match="'hessian/nonsense'"):
        record(**{content: {"hessian/nonsense": 1.0}})


def test_scalars_become_floats() -> None:
    made = record(scalars={"hessian/lambda_1": torch.tensor(2.5), "hessian/converged": np.True_})
    assert made.scalars == {"hessian/lambda_1": 2.5, "hessian/converged": 1.0}
    assert all(type(value) is float for value in made.scalars.values())


@pytest.mark.parametrize("value", ["many", None, torch.ones(2)])
def test_scalar_that_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="'hessian/lambda_1' must be a number"):
        record(scalars={"hessian/lambda_1": value})


def test_histogram_needs_its_array() -> None:
    with pytest.raises(ValueError, match="'hessian/eigenvalues'"):
        record(histograms=("hessian/eigenvalues",))


def test_array_of_objects_is_refused() -> None:
    with pytest.raises(ValueError, match="must be numeric"):
        record(arrays={"hessian/eigenvalues": np.array(["a", None])})


def test_table_shows_as_markdown_and_survives_the_journal(tmp_path) -> None:
    table = Table(("name", "value", "low"), [("loss", 0.123456, True), ("error", float("inf"), None)])
    assert (
        table.markdown() == "| name | value | low |\n| --- | --- | --- |\n| loss | 0.1235 | True |\n| error | inf |  |"
    )
    journal = Journal(tmp_path / "regimes")
    journal.append(Record("regime", 0, 0, 0, tables={"regime/evidence": table}))
    (record,) = read_records(tmp_path)
    rows = record.tables["regime/evidence"].rows
    assert [rows[0], float(rows[1][1])] == [["loss", 0.123456, True], float("inf")]
    with pytest.raises(ValueError, match="1 entries for the columns"):
        Table(("a", "b"), [(1,)])
