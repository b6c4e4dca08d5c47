import json
import math
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.recording import Journal, Record, read_records


def record(global_step: int, *, diagnostic: str = "hessian", **content: Any) -> Record:
    return Record(diagnostic=diagnostic, step=global_step, global_step=global_step, epoch=0, **content)


def steps(run: Path) -> list[int]:
    return [entry.global_step for entry in read_records(run)]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "regimes")


def test_what_was_appended_is_read_back(journal: Journal, tmp_path: Path) -> None:
    grid = np.linspace(0, 1, 12).reshape(3, 4)
    journal.append(
        Record(
            diagnostic="hessian",
            step=7,
            global_step=14,
            epoch=2,
            scalars={"hessian/lambda_1": 0.1 + 0.2},
            text={"regime/label": "untertrainiert ü"},
            arrays={"hessian/eigenvalues": grid, "field/prediction": grid.astype(np.complex64)},
            context={"reasons": ["one", "two"], "thresholds": {"fit": 0.5}},
            histograms=("hessian/eigenvalues",),
        )
    )
    (read,) = read_records(tmp_path)
    assert (read.diagnostic, read.step, read.global_step, read.epoch) == ("hessian", 7, 14, 2)
    assert read.scalars == {"hessian/lambda_1": 0.1 + 0.2}
    assert read.text == {"regime/label": "untertrainiert ü"}
    assert read.context == {"reasons": ["one", "two"], "thresholds": {"fit": 0.5}}
    assert read.histograms == ("hessian/eigenvalues",)
    assert set(read.arrays) == {"hessian/eigenvalues", "field/prediction"}
    np.testing.assert_array_equal(read.arrays["hessian/eigenvalues"], grid)
    assert read.arrays["field/prediction"].dtype == np.complex64


def test_context_is_reduced_to_plain_values(journal: Journal, tmp_path: Path) -> None:
    class Colour(Enum):
        RED = "red"

    context = {"a": np.float32(0.5), "b": np.arange(2), "c": Colour.RED, "d": (1, None, True), "e": Path("x"), 3: -0.0}
    journal.append(record(0, context=context))
    (read,) = read_records(tmp_path)
    assert read.context == {"a": 0.5, "b": [0, 1], "c": "red", "d": [1, None, True], "e": "x", "3": 0.0}


@settings(max_examples=30, deadline=None)
@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_every_float_survives_bit_for_bit(value: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    run = tmp_path_factory.mktemp("run")
    journal = Journal(run / "regimes")
    journal.append(record(0, scalars={"hessian/trace": value}))
    (read,) = read_records(run)
    assert math.isnan(read.scalars["hessian/trace"]) if math.isnan(value) else read.scalars["hessian/trace"] == value
    json.loads(journal.path.read_text(), parse_constant=pytest.fail)


def test_several_journals_share_a_directory(tmp_path: Path) -> None:
    journals = [Journal(tmp_path / "regimes") for _ in range(3)]
    values = [np.full(4, fill) for fill in range(3)]
    for journal, value in zip(journals, values, strict=True):
        journal.append(record(5, arrays={"hessian/eigenvalues": value}))
    for read, value in zip(read_records(tmp_path), values, strict=True):
        np.testing.assert_array_equal(read.arrays["hessian/eigenvalues"], value)


def test_half_a_line_is_skipped_and_does_not_spoil_the_next(journal: Journal, tmp_path: Path) -> None:
    journal.append(record(1))
    journal.append(record(2))
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-9])
    with pytest.warns(UserWarning, match="line 2 is incomplete"):
        assert steps(tmp_path) == [1]
    journal.append(record(3))
    with pytest.warns(UserWarning, match="line 2 is incomplete"):
        assert steps(tmp_path) == [1, 3]


def test_a_killed_process_leaves_what_it_appended(tmp_path: Path) -> None:
    code = (
        "import os, signal, numpy as np\n"
        "from lightning_regimes.recording.journal import Journal\n"
        "from lightning_regimes.recording.record import Record\n"
        f"journal = Journal({str(tmp_path / 'regimes')!r})\n"
        "for step in range(3):\n"
        "    journal.append(Record('hessian', step, step, 0, arrays={'hessian/eigenvalues': np.arange(step + 1.)}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False)
    assert ended.returncode == -9
    assert [entry.arrays["hessian/eigenvalues"].size for entry in read_records(tmp_path)] == [1, 2, 3]


def test_resuming_supersedes_what_lies_beyond(journal: Journal, tmp_path: Path) -> None:
    for step in (0, 10, 20, 30):
        journal.append(record(step))
    journal.resume(20)
    assert steps(tmp_path) == [0, 10, 20]
    journal.append(record(25))
    assert steps(tmp_path) == [0, 10, 20, 25]
    assert len(journal.path.read_text().splitlines()) == 6, "nothing is removed from the file"


def test_every_callback_may_resume_and_one_marker_is_written(journal: Journal, tmp_path: Path) -> None:
    for step in (0, 10, 20):
        journal.append(record(step))
    for callback in range(3):
        other = Journal(tmp_path / "regimes")
        other.resume(10)
        other.append(record(10, diagnostic=f"diagnostic_{callback}"))
    assert steps(tmp_path) == [0, 10, 10, 10, 10]
    assert journal.path.read_text().count("resumed_at") == 1


def test_resuming_again_from_an_earlier_checkpoint(journal: Journal, tmp_path: Path) -> None:
    for step in (0, 10, 20):
        journal.append(record(step))
    journal.resume(10)
    journal.append(record(15))
    journal.resume(5)
    journal.append(record(7))
    assert steps(tmp_path) == [0, 7]


def test_resuming_later_than_all_records_writes_nothing(journal: Journal, tmp_path: Path) -> None:
    journal.resume(0)
    assert not journal.directory.exists()
    journal.append(record(10))
    before = journal.path.read_bytes()
    journal.resume(10)
    assert journal.path.read_bytes() == before


@settings(max_examples=50, deadline=None)
@given(
    sessions=st.lists(st.lists(st.integers(0, 9), max_size=4).map(sorted), min_size=1, max_size=4),
    starts=st.lists(st.integers(0, 9), min_size=4, max_size=4),
)
def test_resumptions_agree_with_the_timeline(
    sessions: list[list[int]], starts: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = tmp_path_factory.mktemp("run")
    journal = Journal(run / "regimes")
    journal.append(record(0))
    timeline = [0]
    for start, taken in zip(starts, sessions, strict=False):
        timeline = [step for step in timeline if step <= start] + [start + step for step in taken]
        journal.resume(start)
        for step in taken:
            journal.append(record(start + step))
    assert steps(run) == timeline


def test_missing_arrays_are_skipped_with_a_warning(journal: Journal, tmp_path: Path) -> None:
    journal.append(record(0, arrays={"hessian/eigenvalues": np.ones(2)}, histograms=("hessian/eigenvalues",)))
    next(journal.directory.glob("*.npz")).unlink()
    with pytest.warns(UserWarning, match="is missing"):
        (read,) = read_records(tmp_path)
    assert not read.arrays
    assert read.histograms == ()


def test_key_of_another_version_is_skipped_with_a_warning(journal: Journal, tmp_path: Path) -> None:
    journal.append(record(0, scalars={"hessian/trace": 1.0}))
    journal.path.write_text(
        journal.path.read_text().replace('"hessian/trace": 1.0', '"hessian/trace": 1.0, "hessian/of_tomorrow": 2.0')
    )
    with pytest.warns(UserWarning, match="of_tomorrow"):
        (read,) = read_records(tmp_path)
    assert read.scalars == {"hessian/trace": 1.0}


def test_directory_without_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no records") as error:
        read_records(tmp_path / "nowhere")
    assert "nowhere" in str(error.value)
