"""The examples run from their first line to their last, with less of everything."""

import importlib.util
import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.slow


@pytest.fixture
def load(monkeypatch, tmp_path):
    """Loads an example by its name, to be run in a folder of its own with the given arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def loaded(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        specification = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        module = importlib.util.module_from_spec(specification)
        monkeypatch.setitem(sys.modules, name, module)
        specification.loader.exec_module(module)
        return module

    return loaded


def test_every_example_is_run():
    elsewhere = {
        "existing_trainer": "test_readme.py",
        "hugging_face_fine_tune": "needs transformers",
        "sweep_on_ray": "needs ray",
    }
    source = Path(__file__).read_text()
    for path in EXAMPLES.glob("*.py"):
        assert path.stem in elsewhere or f'load("{path.stem}"' in source, path.name


def test_optimizers_are_tuned_and_drawn(load, monkeypatch, capsys):
    example = load("compare_optimizers", "digits")
    monkeypatch.setattr(example, "SEEDS", (0, 1))
    monkeypatch.setattr(example, "RATES", (1e-2,))
    task = replace(example.TASKS["digits"], steps=4, check_every=2, adamw_rates=(1e-2,), matrix_rates=(1e-2,))
    monkeypatch.setitem(example.TASKS, "digits", task)
    example.main()
    output = capsys.readouterr().out
    assert all(f"| {name} | 0.01 | " in output for name in example.OPTIMIZERS)
    assert Path("optimizers_digits.png").is_file()


def test_an_unsolved_equation_is_trained_and_the_estimate_is_its_error(load, monkeypatch, capsys):
    example = load("unsolved_equation")
    monkeypatch.setattr(example, "ROUNDS", 2)
    example.main()
    rows = [line.split("|")[1:5] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    assert [int(row[0]) for row in rows] == [100, 200]
    for _, estimate, error, corrected in rows:
        # The truth is that of finite differences, which know nothing of the network.
        assert float(estimate) == pytest.approx(float(error), rel=0.03)
        assert float(corrected) < float(error) / 20
    assert Path("unsolved_equation.png").is_file()


def test_pendulums_are_trained_and_drawn(load, monkeypatch, capsys):
    example = load("neural_ode_pendulum")
    short = SimpleNamespace(Trainer=lambda **settings: L.Trainer(**{**settings, "max_steps": 2}))
    monkeypatch.setattr(example, "L", short)
    monkeypatch.setattr(example, "HORIZONS", (1.0, 2.0))
    monkeypatch.setattr(example, "INVERSE_DAMPINGS", (1.0, 4.0))
    monkeypatch.setattr(example, "SEEDS", (0,))
    example.main()
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split(" | ")[:2] for row in rows] == [["| 1", "1"], ["| 1", "2"], ["| 4", "1"], ["| 4", "2"]]
    assert Path("neural_ode_pendulum.png").is_file()


def test_projected_trainings_branch_and_are_drawn(load, monkeypatch, capsys):
    example = load("projected_training")
    monkeypatch.setattr(example, "SWITCH", 20)
    monkeypatch.setattr(example, "STEPS", 40)
    monkeypatch.setattr(example, "alignment", partial(example.alignment, steps=100))
    example.main()
    output = capsys.readouterr().out
    assert output.count("in 20 steps") == 3
    assert Path("projected_training.png").is_file()


def test_a_graph_is_sanitized_without_lightning(load, monkeypatch, capsys):
    example = load("kces_in_plain_pyg")
    train = example.train_surrogate
    monkeypatch.setattr(example, "block_model", partial(example.block_model, 300))
    monkeypatch.setattr(example, "train_surrogate", lambda graph: train(graph, epochs=20))
    example.main()
    assert capsys.readouterr().out.count("test accuracy") == 5


def test_an_attack_knows_the_defence(load, monkeypatch, capsys):
    example = load("kces_adaptive_attack")
    small, rows, train = example.block_model, example.attack_rows, example.train_surrogate
    monkeypatch.setattr(example, "train_surrogate", lambda graph, epochs: train(graph, epochs=3))
    monkeypatch.setattr(example, "block_model", lambda num_nodes, seed: small(150, seed=seed))
    monkeypatch.setattr(example, "attack_rows", lambda clean, **_: rows(clean, epochs=3, block_size=1000))
    example.main()
    assert capsys.readouterr().out.count("signed AUC") == 8


def test_defences_are_compared_on_files_and_what_is_done_is_not_done_again(load, monkeypatch):
    data = os.environ.get("REGIMES_TEST_DATA")
    if data is None:
        pytest.skip("REGIMES_TEST_DATA is not set")
    arguments = ["--name", "polblogs", "--rates", "0.05", "--defences", "none", "KCES 0.1", "--seeds", "1"]
    example = load("graph_defences", f"{data}/graphs", *arguments, "--results", "rows.jsonl")
    example.main()
    example.main()
    without, pruned = map(json.loads, Path("rows.jsonl").read_text().splitlines())
    assert (without["defence"], without["pruned"]) == ("none", 0)
    assert pruned["auc"] > 0.9
    assert pruned["accuracy"] > without["accuracy"] + 5
