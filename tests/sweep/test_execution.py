"""A sweep that is killed and started again."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lightning_regimes.sweep import Ledger, Result, Trial, run_sweep
from lightning_regimes.sweep.exclusive_lock import ExclusiveLock

HERE = Path(__file__).parent
TRIALS = [Trial({"n": n, "seed": n % 2}) for n in range(8)]

SCRIPT = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from cells_to_run import Marked
from lightning_regimes.sweep import LocalEngine, Trial, run_sweep

if __name__ == "__main__":
    trials = [Trial({{"n": n, "seed": n % 2}}) for n in range(8)]
    run_sweep(trials, "sweep", function=Marked(Path("marks"), 0.25), engine=LocalEngine(workers=2), seed="seed")
"""


class Here:
    """Runs cells in this process, in the order given."""

    def __init__(self, order=1):
        self.order = order
        self.started = []

    def map(self, function, trials):
        for trial in list(trials)[:: self.order]:
            self.started.append(trial.parameters["n"])
            yield Result(trial, function(trial))


def row(trial):
    return {"values": {"square": trial.parameters["n"] ** 2}}


def test_a_killed_sweep_goes_on_without_loss_or_repetition(tmp_path):
    (tmp_path / "marks").mkdir()
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT.format(here=str(HERE))))
    ledger = Ledger(tmp_path / "sweep")
    process = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path)
    while len(ledger.rows()) < 3 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = ledger.rows()
    assert 3 <= len(before) < 8
    pids = {int(pid) for mark in (tmp_path / "marks").iterdir() for pid in mark.read_text().split()}
    deadline = time.monotonic() + 20
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(is_running(pid) for pid in pids), "workers outlive the sweep that started them"

    # The half line that a kill in the middle of a write leaves.
    with ledger.path.open("ab") as file:
        file.write(b'{"key": "cut o')
    with pytest.warns(UserWarning, match="incomplete"):
        assert ledger.rows() == before
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, check=True, stderr=subprocess.DEVNULL)
    with pytest.warns(UserWarning, match="incomplete"):
        after = ledger.rows()
    assert [after[trial.key]["values"]["square"] for trial in TRIALS] == [n * n for n in range(8)]
    assert len(after) == 8
    lines = [line for line in ledger.path.read_bytes().split(b"\n") if line.startswith(b'{"key": ')]
    assert len(lines) == 9  # eight rows, once each, and the half line
    for key, kept in before.items():
        assert after[key] == kept
        n = kept["parameters"]["n"]
        assert len((tmp_path / "marks" / f"{n}.starts").read_text().split()) == 1


def is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_order_does_not_matter_and_nothing_runs_twice(tmp_path):
    forwards = run_sweep(TRIALS, tmp_path / "a", function=row, engine=Here(), seed="seed")
    backwards = run_sweep(TRIALS, tmp_path / "b", function=row, engine=Here(-1), seed="seed")
    assert forwards == backwards
    assert [entry["seed"] for entry in forwards] == [n % 2 for n in range(8)]
    again = Here()
    assert run_sweep(TRIALS, tmp_path / "a", function=row, engine=again) == forwards
    assert again.started == []


def test_failed_cells_run_again_only_on_request(tmp_path):
    class Failing(Here):
        def map(self, function, trials):
            for trial in trials:
                yield Result(trial, None, "ValueError: no") if trial.parameters["n"] == 2 else Result(trial, row(trial))

    rows = run_sweep(TRIALS, tmp_path, function=row, engine=Failing())
    assert [entry["status"] for entry in rows].count("failed") == 1
    assert rows[2]["error"] == "ValueError: no"
    engine = Here()
    assert run_sweep(TRIALS, tmp_path, function=row, engine=engine)[2]["status"] == "failed"
    assert engine.started == []
    assert run_sweep(TRIALS, tmp_path, function=row, engine=engine, retry_failed=True)[2]["status"] == "finished"
    assert engine.started == [2]


def test_progress_is_told(tmp_path):
    told = []
    run_sweep(TRIALS[:3], tmp_path, function=row, engine=Here())
    run_sweep(
        TRIALS,
        tmp_path,
        function=row,
        engine=Here(),
        on_start=lambda done, total: told.append((done, total)),
        on_row=lambda entry: told.append(entry["parameters"]["n"]),
    )
    assert told == [(3, 8), 3, 4, 5, 6, 7]


def test_one_process_at_a_time(tmp_path):
    with ExclusiveLock(tmp_path / "lock"), pytest.raises(RuntimeError, match=str(os.getpid())):
        run_sweep(TRIALS, tmp_path, function=row, engine=Here())
    assert len(run_sweep(TRIALS, tmp_path, function=row, engine=Here())) == 8


def test_numbers_that_json_lacks_come_back(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append({"key": "a", "values": {"loss": float("nan"), "margin": float("inf")}})
    from lightning_regimes.sweep.recorded_sweep import tidy

    back = tidy(ledger.rows()["a"] | {"parameters": {"n": 1}})
    assert back["loss"] != back["loss"]
    assert back["margin"] == float("inf")
    with pytest.raises(ValueError, match="key"):
        ledger.append({"values": {}})
