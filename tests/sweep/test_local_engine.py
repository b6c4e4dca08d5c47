"""Cells in local processes, some of which are lost."""

import sys
from pathlib import Path

import pytest

from lightning_regimes.sweep import LocalEngine, Trial

# Workers import what they run by name.
sys.path.insert(0, str(Path(__file__).parent))
import cells_to_run


def trials(count):
    return [Trial({"n": n}) for n in range(count)]


def test_workers_are_used_again():
    results = list(LocalEngine(workers=2).map(cells_to_run.square, trials(6)))
    assert {result.trial.parameters["n"]: result.row["values"]["square"] for result in results} == {
        n: n * n for n in range(6)
    }
    assert 1 <= len({result.row["pid"] for result in results}) <= 2


@pytest.mark.parametrize("function", [cells_to_run.fail_on_odd, cells_to_run.leave_on_odd])
def test_a_cell_that_raises_fails_once_and_stops_no_other(function):
    results = {r.trial.parameters["n"]: r for r in LocalEngine(workers=1).map(function, trials(4))}
    assert [results[n].row is None for n in range(4)] == [False, True, False, True]
    assert results[1].error in ("ValueError: 1 is odd", "SystemExit: 3")
    assert results[1].attempts == 1


def test_a_cell_whose_worker_is_killed_is_tried_again(tmp_path):
    lost = []
    engine = LocalEngine(workers=1, on_lost_worker=lost.append)
    results = {r.trial.parameters["n"]: r for r in engine.map(cells_to_run.KilledOnce(tmp_path, 1), trials(3))}
    assert {n: result.row["values"]["square"] for n, result in results.items()} == {0: 0, 1: 1, 2: 4}
    assert [results[n].attempts for n in range(3)] == [1, 2, 1]
    assert len(lost) == 1
    assert "signal 9" in lost[0]
    assert "n = 1" in lost[0]


def test_a_worker_that_is_killed_in_the_middle_of_its_answer_is_a_lost_one(tmp_path):
    (result,) = LocalEngine(workers=1).map(cells_to_run.CutOff(tmp_path), trials(1))
    assert result.row["values"]["square"] == 0
    assert result.attempts == 2


def test_a_cell_that_kills_every_worker_is_given_up(tmp_path):
    engine = LocalEngine(workers=1, max_attempts=2)
    function = cells_to_run.KilledOnce(tmp_path, 0, always=True)
    results = {r.trial.parameters["n"]: r for r in engine.map(function, trials(2))}
    assert results[0].row is None
    assert results[0].error == "the worker was lost (signal 9)"
    assert results[0].attempts == 2
    assert results[1].row["values"]["square"] == 1


def test_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match="`workers` must be at least 1, got 0"):
        LocalEngine(workers=0)
