"""The solutions of two seeds beside each other."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F

from lightning_regimes.cli import main
from lightning_regimes.command.sweep_pair import CompareSeeds, compare_solutions
from lightning_regimes.datamodules import Collocation, HandwrittenDigits
from lightning_regimes.modules import PINN, Classifier
from lightning_regimes.networks import MLP
from lightning_regimes.pde import Convection
from lightning_regimes.sweep import Ledger, SeedComparison, SweepSpecification, Trial, run_sweep, seed_pairs
from lightning_regimes.sweep.engine import Result
from lightning_regimes.sweep.recorded_sweep import RecordedSweep, describe_sweep

CONFIGS = Path(__file__).parents[2] / "configs"
WIDTHS = "model.network.hidden_sizes"


class Here:
    """Runs what it is given in this process."""

    def map(self, function, trials):
        for trial in trials:
            try:
                yield Result(trial, function(trial))
            except Exception as error:
                yield Result(trial, None, f"{type(error).__name__}: {error}")


@pytest.fixture
def sweep_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightning_regimes.command.sweep.LocalEngine", lambda **options: Here())
    files = [CONFIGS / "digits.yaml", CONFIGS / "sweeps" / "cells" / "digits.yaml"]
    command = ["fit", *(word for file in files for word in ("-c", str(file)))]
    content = {
        "command": [*command, "--trainer.max_epochs=1", "--data.num_train=200", "${args}"],
        "method": "grid",
        "parameters": {WIDTHS: {"values": [[4]]}, "seed_everything": {"values": [0, 1]}},
        "phase_diagram": {"x": WIDTHS, "seed_pairs": {"path": "linear", "num_batches": 10}},
    }
    path = tmp_path / "digits.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_every_two_seeds_of_a_cell_are_a_pair():
    trials = [Trial({"width": width, "seed": seed}) for width in (1, 2) for seed in (0, 1, 2)]
    pairs = seed_pairs(trials, "seed", SeedComparison())
    assert [pair.parameters for pair in pairs] == [
        {"width": width, "seed": seeds} for width in (1, 2) for seeds in ([0, 1], [0, 2], [1, 2])
    ]
    assert all(pair.first.parameters["width"] == pair.second.parameters["width"] for pair in pairs)
    others = seed_pairs(trials, "seed", SeedComparison(points=11))
    assert len({pair.key for pair in (*pairs, *others)} | {trial.key for trial in trials}) == 6 + 6 + 6
    assert seed_pairs(trials[:1], "seed", SeedComparison()) == []


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"path": "straight"}, "'straight'"),
        ({"points": 2}, "from 3 on, got 2"),
        ({"width": 2}, "no option 'width'"),
    ],
)
def test_options_are_checked(sweep_file, section, message):
    content = yaml.safe_load(sweep_file.read_text())
    content["phase_diagram"]["seed_pairs"] = section
    sweep_file.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=message):
        SweepSpecification.read(sweep_file)


def test_pairs_need_seeds(sweep_file):
    content = yaml.safe_load(sweep_file.read_text())
    content["parameters"]["seed_everything"] = {"values": [0]}
    sweep_file.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match="at least two values"):
        SweepSpecification.read(sweep_file)


def test_hidden_units_in_another_order_are_alike_and_apart():
    torch.manual_seed(0)
    module = Classifier(network=MLP(64, 10, hidden_sizes=[6])).double()
    inputs, labels = torch.randn(40, 64, dtype=torch.float64), torch.arange(40) % 10
    first = {name: value.clone() for name, value in module.state_dict().items()}
    hidden, output = [name.removesuffix(".weight") for name, value in first.items() if value.dim() == 2]
    order = torch.tensor([1, 2, 3, 4, 5, 0])
    second = dict(first)
    second[f"{hidden}.weight"], second[f"{hidden}.bias"] = (
        first[f"{hidden}.weight"][order],
        first[f"{hidden}.bias"][order],
    )
    second[f"{output}.weight"] = first[f"{output}.weight"][:, order]

    found = compare_solutions(module, [(inputs, labels)], first, second, SeedComparison(path="linear", points=5))

    def loss(t):
        w, b, v, c = (
            torch.lerp(first[name], second[name], t)
            for name in (f"{hidden}.weight", f"{hidden}.bias", f"{output}.weight", f"{output}.bias")
        )
        return F.cross_entropy(torch.tanh(inputs @ w.T + b) @ v.T + c, labels).item()

    losses = [loss(t) for t in (0.0, 0.25, 0.5, 0.75, 1.0)]
    ends = (losses[0] + losses[-1]) / 2
    assert losses[0] == pytest.approx(losses[-1], rel=1e-12)
    assert found["connectivity/barrier"] == pytest.approx(max(losses) - ends, abs=1e-12)
    assert found["connectivity/mode_connectivity"] == pytest.approx(ends - furthest(losses), abs=1e-12)
    assert found["similarity/cka_output"] == pytest.approx(1, abs=1e-9)
    assert found["similarity/cka_mean"] == pytest.approx(1, abs=1e-9)


def test_a_network_that_runs_on_several_sets_of_points_is_compared_by_its_loss_alone():
    module = PINN(Convection(beta=2.0), MLP(2, 1, hidden_sizes=[3])).double()
    batch = {
        name: points.double() for name, points in Collocation(module.problem, num_interior=20).training_batch().items()
    }
    first = {name: value.clone() for name, value in module.state_dict().items()}
    second = {name: value + 0.1 if value.is_floating_point() else value for name, value in first.items()}
    with pytest.warns(UserWarning, match="not by CKA"):
        found = compare_solutions(module, [batch], first, second, SeedComparison(path="linear", points=3))
    losses = []
    for t in (0.0, 0.5, 1.0):
        module.load_state_dict({name: value + t * (second[name] - value) for name, value in first.items()})
        losses.append(module.diagnostic_loss(batch).item())
    assert found == {
        "connectivity/barrier": pytest.approx(max(losses) - (losses[0] + losses[2]) / 2, abs=1e-12),
        "connectivity/mode_connectivity": pytest.approx((losses[0] + losses[2]) / 2 - furthest(losses), abs=1e-12),
    }


def furthest(losses):
    """The value that differs most from the mean of the ends."""
    return max(losses, key=lambda value: abs(value - (losses[0] + losses[-1]) / 2))


def test_the_mean_over_the_runs_of_a_cell_is_that_over_its_pairs(sweep_file):
    content = yaml.safe_load(sweep_file.read_text())
    content["parameters"]["seed_everything"] = {"values": [0, 1, 2]}
    sweep_file.write_text(yaml.safe_dump(content))
    specification = SweepSpecification.read(sweep_file)
    trials, pairs = specification.trials(), specification.seed_pairs()
    describe_sweep(specification, trials, "out", pairs=pairs)
    ledger = Ledger("out")
    for trial in trials:
        values = {"regime/normalized_loss": 0.01, "regime/test_error": 0.01, "hessian/lambda_1": 2.0}
        ledger.append({"key": trial.key, "status": "finished", "parameters": trial.parameters, "values": values})
    for pair, height in zip(pairs, (0.2, 0.5, 1.1), strict=True):
        values = {"connectivity/mode_connectivity": -height}
        row = {"key": pair.key, "status": "finished", "parameters": pair.parameters, "values": values}
        ledger.append({**row, "pair": [pair.first.key, pair.second.key]})
    (diagram,) = RecordedSweep("out").diagrams().values()
    assert diagram.mean("connectivity/mode_connectivity").item() == pytest.approx(-0.6)
    assert diagram.table()[0]["runs"] == 3


def test_a_sweep_compares_its_seeds_from_their_checkpoints(sweep_file):
    assert main(["sweep", "-c", str(sweep_file), "-d", "out", "--no-wandb"]) == 0
    sweep = RecordedSweep("out")
    assert len(sweep.finished) == 2
    (row,) = sweep.pairs
    assert row["parameters"]["seed_everything"] == [0, 1]
    assert row["values"]["connectivity/barrier"] == pytest.approx(barrier_by_hand(sweep, row["pair"]), abs=1e-5)
    assert "1 pairs of seeds compared" in Path("out", "report.html").read_text()
    (diagram,) = sweep.diagrams().values()
    assert diagram.table()[0]["phase"] in ("I", "II", "III", "IV_A", "IV_B")

    # Once compared, they are not compared again; without checkpoints they can't be, which is told.
    (pair,) = SweepSpecification.read(sweep_file).seed_pairs()
    before = Ledger("out").path.read_bytes()
    function = CompareSeeds(Path("out"), {pair.first.key: "elsewhere", pair.second.key: "elsewhere"})
    run_sweep([pair], "out", function=function, engine=Here())
    assert Ledger("out").path.read_bytes() == before
    (failed,) = run_sweep([pair], "elsewhere", function=function, engine=Here())
    assert "left no checkpoints/last.ckpt" in failed["error"]


def barrier_by_hand(sweep, keys):
    """The barrier on the line between two checkpoints, over the whole training set."""
    runs = {row["key"]: row["run"] for row in sweep.finished}
    states = [
        torch.load(sweep.directory / runs[key] / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for key in keys
    ]
    data = HandwrittenDigits(num_train=200)
    data.prepare_data()
    data.setup("fit")
    inputs, labels = data.train_dataloader().dataset[:]
    module = Classifier(network=MLP(64, 10, hidden_sizes=[4]))
    losses = []
    for t in np.linspace(0, 1, 21):
        mixed = {
            name: torch.lerp(states[0][name], states[1][name], float(t)) for name in dict(module.named_parameters())
        }
        with torch.no_grad():
            losses.append(F.cross_entropy(torch.func.functional_call(module, mixed, (inputs,)), labels).item())
    return max(losses) - (losses[0] + losses[-1]) / 2
