"""Sweeps as they are written down."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lightning_regimes.sweep import Parameter, SweepSpecification, Trial
from lightning_regimes.sweep.recorded_sweep import tidy

SWEEPS = sorted((Path(__file__).parents[2] / "configs" / "sweeps").glob("*.yaml"))
BASE = {"model": {"class_path": "PINN"}}


def written(folder, **changes):
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    content = {
        "program": "lightning-regimes",
        "command": ["lightning-regimes", "fit", "-c", "base.yaml", "--trainer.max_steps=3", "${args}"],
        "method": "grid",
        "parameters": {
            "model.problem.beta": {"values": [1, 30]},
            "data.num_interior": {"values": [50, 200, 1000]},
            "trainer.devices": {"value": 1},
            "seed_everything": {"values": [0, 1]},
        },
    } | changes
    path = folder / "sweep.yaml"
    kept = {key: value for key, value in content.items() if value is not None}
    path.write_text(yaml.safe_dump(kept, sort_keys=False))
    return path


def test_grid_is_every_combination_once(tmp_path):
    specification = SweepSpecification.read(written(tmp_path))
    trials = specification.trials()
    assert len(trials) == 12 == len({trial.key for trial in trials})
    assert (specification.x, specification.y, specification.seed) == (
        "model.problem.beta",
        "data.num_interior",
        "seed_everything",
    )
    assert trials[0].command[:4] == ["fit", "-c", str(tmp_path / "base.yaml"), "--trainer.max_steps=3"]
    assert trials[0].command[-4:] == [
        "--model.problem.beta=1",
        "--data.num_interior=50",
        "--trainer.devices=1",
        "--seed_everything=0",
    ]


def test_axes_can_be_named(tmp_path):
    section = {"x": "data.num_interior", "y": "model.problem.beta", "seed": None}
    specification = SweepSpecification.read(written(tmp_path, phase_diagram=section))
    assert (specification.x, specification.y, specification.seed) == (section["x"], section["y"], None)


@pytest.mark.parametrize("section", [{"x": "seed_everything"}, {"x": "trainer.devices", "y": "trainer.devices"}])
def test_a_parameter_is_one_axis(tmp_path, section):
    with pytest.raises(ValueError, match="needs different parameters as x, y and seed"):
        SweepSpecification.read(written(tmp_path, phase_diagram=section))


def test_exponents_are_numbers(tmp_path):
    path = written(tmp_path)
    path.write_text(path.read_text().replace("- 200\n", "- 1e3\n").replace("- 1000\n", "- 2.5e+3\n"))
    assert yaml.safe_load(path.read_text())["parameters"]["data.num_interior"]["values"] == [50, "1e3", 2500.0]
    _, points, *_ = SweepSpecification.read(path).parameters
    assert points.values == (50, 1000.0, 2500.0)
    assert Parameter.from_mapping("name", {"value": "1e"}).values == ("1e",)


def test_key_is_that_of_the_content(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    keys = [trial.key for trial in SweepSpecification.read(written(tmp_path / "a")).trials()]
    elsewhere = written(tmp_path / "b", name="another name")
    (tmp_path / "b" / "base.yaml").write_text("# a comment\nmodel:   {class_path: PINN}\n")
    assert [trial.key for trial in SweepSpecification.read(elsewhere).trials()] == keys
    (tmp_path / "b" / "base.yaml").write_text("model: {class_path: NeuralODE}\n")
    assert not set(keys) & {trial.key for trial in SweepSpecification.read(elsewhere).trials()}
    more = written(tmp_path / "a", parameters={"model.problem.beta": {"values": [1, 30]}})
    assert not set(keys) & {trial.key for trial in SweepSpecification.read(more).trials()}


def test_configuration_files_can_be_an_axis(tmp_path):
    parameters = {"config": {"values": ["one.yaml", "two.yaml"]}, "model.problem.beta": {"values": [1, 30]}}
    path = written(tmp_path, parameters=parameters)
    (tmp_path / "one.yaml").write_text("trainer: {max_steps: 1}\n")
    (tmp_path / "two.yaml").write_text("trainer: {max_steps: 2}\n")
    specification = SweepSpecification.read(path)
    trials = specification.trials()
    assert specification.x == "config"
    assert trials[0].parameters == {"config": "one.yaml", "model.problem.beta": 1}
    # After the files and options of the command, before the other parameters.
    assert trials[0].command[-3:] == ["-c", str(tmp_path / "one.yaml"), "--model.problem.beta=1"]
    keys = [trial.key for trial in trials]
    assert len(set(keys)) == 4
    # A cell is known by what its file holds.
    (tmp_path / "two.yaml").write_text("trainer: {max_steps: 3}\n")
    again = [trial.key for trial in SweepSpecification.read(path).trials()]
    assert again[:2] == keys[:2]
    assert not set(again[2:]) & set(keys)
    (tmp_path / "two.yaml").unlink()
    with pytest.raises(FileNotFoundError, match=r"'two\.yaml'"):
        SweepSpecification.read(path).trials()
    row = {"parameters": {"config": "cells/augmented_lagrangian.yaml"}}
    assert tidy(row)["config"] == "augmented_lagrangian"


def test_random_trials_are_the_same_each_time_and_a_longer_sweep_starts_with_a_shorter_one(tmp_path):
    parameters = {"a": {"min": 0.1, "max": 100.0, "distribution": "log_uniform_values"}, "b": {"values": ["x", "y"]}}
    drawn = [
        SweepSpecification.read(written(tmp_path, method="random", parameters=parameters, run_cap=count)).trials()
        for count in (5, 5, 9)
    ]
    assert drawn[0] == drawn[1] == drawn[2][:5]
    assert len({trial.key for trial in drawn[2]}) == 9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "bayes"}, "'grid' or 'random', got 'bayes'"),
        ({"method": "random"}, "run_cap"),
        ({"parameters": None}, "no `parameters`"),
        ({"parameters": {"a": {"values": []}}}, "list of values"),
        ({"parameters": {"a": {"min": 1}}}, "`min` and `max`"),
        ({"parameters": {"a": {"min": 1.5, "max": 2.0}}}, "continuous"),
        ({"parameters": {"a": {"min": 2, "max": 1}}}, "min < max"),
        ({"parameters": {"a": {"parameters": {}}}}, "nested"),
        ({"parameters": {"a": {"valus": [1]}}}, "no key 'valus'"),
        ({"parameters": {"a": {"value": 1}}}, "several values"),
        ({"command": None}, "`command` must be a list"),
        ({"command": ["python", "train.py"]}, "subcommand 'fit'"),
        ({"command": ["lightning-regimes", "fit", "${args_json}"]}, r"\$\{args_json\}"),
        ({"phase_diagram": {"x": "model.bta"}}, "`phase_diagram.x`"),
        ({"phase_diagram": {"z": "a"}}, "no key 'z'"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_sentence(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        SweepSpecification.read(written(tmp_path, **changes)).trials()


def test_files_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"sweep\.yaml"):
        SweepSpecification.read(tmp_path / "sweep.yaml")
    with pytest.raises(FileNotFoundError, match=r"'none\.yaml'"):
        SweepSpecification.read(written(tmp_path, command=["fit", "-c", "none.yaml"]))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"min": 1, "max": 4}, [1, 2, 3, 4]),
        ({"min": 0.1, "max": 0.5, "q": 0.1, "distribution": "q_uniform"}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"value": "a"}, ["a"]),
    ],
)
def test_discrete_parameters_have_a_grid(entry, expected):
    assert list(Parameter.from_mapping("a", entry).grid()) == expected


@given(st.integers(0, 2**32))
def test_draws_lie_within_their_bounds(seed):
    generator = np.random.default_rng(seed)
    for distribution in ("uniform", "log_uniform_values", "inv_log_uniform_values", "q_uniform"):
        entry = {"min": 0.5, "max": 8.0, "distribution": distribution, "q": 0.5}
        assert 0.5 <= Parameter.from_mapping("a", entry).draw(generator) <= 8
    drawn = Parameter.from_mapping("a", {"min": -1.0, "max": 2.0, "distribution": "log_uniform"}).draw(generator)
    assert -1 <= math.log(drawn) <= 2


def test_a_logarithmic_draw_is_uniform_in_the_logarithm():
    parameter = Parameter.from_mapping("a", {"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"})
    generator = np.random.default_rng(0)
    logarithms = np.log10([parameter.draw(generator) for _ in range(4000)])
    # Mean and deviation of a uniform variable on [-4, 0]; five standard errors.
    assert abs(logarithms.mean() + 2) < 5 * (4 / 12**0.5) / 4000**0.5
    assert logarithms.std() == pytest.approx(4 / 12**0.5, rel=0.03)


def test_values_are_written_as_the_command_reads_them():
    trial = Trial({"a": 1e-5, "b": "AdamFactory", "c": True, "d": None, "e": [1, 2]})
    assert [yaml.safe_load(word.partition("=")[2]) for word in trial.command[1:]] == ["AdamFactory", True, None, [1, 2]]
    assert float(trial.command[0].partition("=")[2]) == 1e-5
    assert json.loads(json.dumps(trial.key)) == trial.key


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_shipped_sweep_can_be_read_and_says_what_to_see(path):
    assert "What to see:" in path.read_text()
    specification = SweepSpecification.read(path)
    trials = specification.trials()
    assert len(trials) >= 8
    assert all(trial.arguments[0] == "fit" for trial in trials)
