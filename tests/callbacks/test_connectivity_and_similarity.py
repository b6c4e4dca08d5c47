"""Callbacks that hold the weights of a training against other weights."""

import copy

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import CKASimilarity, ModeConnectivity
from lightning_regimes.landscape import cka, loss_barrier, mode_connectivity, weight_matching
from lightning_regimes.recording import read_records


class Network(L.LightningModule):
    def __init__(self, seed=0, activation=nn.Tanh):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(5, 12), nn.BatchNorm1d(12), activation(), nn.Linear(12, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.5)


def loader():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 5, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=30)


def fit(folder, module, *callbacks, max_epochs=10, **options):
    trainer = L.Trainer(
        default_root_dir=folder,
        max_epochs=max_epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    trainer.fit(module, loader(), **options)
    return trainer


def records(folder):
    (path,) = folder.rglob("records.jsonl")
    return read_records(path.parent.parent)


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other")
    module = Network(seed=1)
    fit(folder, module)
    torch.save(module.state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


@pytest.mark.parametrize("match", ["none", "permutation", "sign"])
def test_barrier_and_curve_are_those_of_the_functions(tmp_path, other, match):
    module = Network()
    fit(tmp_path, module, ModeConnectivity(other, steps=40, points=11, match=match, num_batches=4, overhead_budget=0))
    (record,) = records(tmp_path)
    reference = torch.load(other)
    if match != "none":
        reference = weight_matching(module, reference, sign=match == "sign").state
    probe = LossProbe(module, list(loader()))
    line = loss_barrier(probe, reference, points=11)
    curve = mode_connectivity(probe, reference, "bezier", steps=40, points=11)
    assert record.scalars["connectivity/barrier"] == line.value
    assert record.scalars["connectivity/barrier_position"] == line.position
    assert record.scalars["connectivity/mode_connectivity"] == curve.value
    np.testing.assert_array_equal(record.arrays["connectivity/losses"], line.losses)
    np.testing.assert_array_equal(record.arrays["connectivity/curve_losses"], curve.losses)
    assert record.context["match"] == match


def test_the_line_alone_trains_no_curve(tmp_path, other):
    fit(tmp_path, Network(), ModeConnectivity(other, path="linear", overhead_budget=0))
    (record,) = records(tmp_path)
    assert "connectivity/curve_losses" not in record.arrays
    losses = record.arrays["connectivity/losses"]
    assert len(losses) == 21
    # Each point takes one pass for the running statistics and one for the loss.
    assert record.scalars["connectivity/num_evaluations"] == 42
    ends = (losses[0] + losses[-1]) / 2
    assert record.scalars["connectivity/barrier"] == pytest.approx(losses.max() - ends)
    deviation = losses[np.abs(losses - ends).argmax()]
    assert record.scalars["connectivity/mode_connectivity"] == pytest.approx(ends - deviation)


def test_another_architecture_is_refused_before_training(tmp_path, other):
    class Deeper(Network):
        def __init__(self):
            super().__init__()
            self.net.append(nn.Linear(3, 3))

    with pytest.raises(ValueError, match=r"lacks 'net.4.weight' of Deeper"):
        fit(tmp_path, Deeper(), ModeConnectivity(other))
    with pytest.raises(ValueError, match="`reference` names no file"):
        fit(tmp_path, Network(), ModeConnectivity(tmp_path / "nothing.ckpt"))
    with pytest.raises(ValueError, match="no hidden unit of this network has an odd activation"):
        fit(tmp_path, Network(activation=nn.ReLU), ModeConnectivity(other, match="sign"))


def test_frozen_parameters_that_differ_are_refused_before_training(tmp_path, other):
    class Frozen(Network):
        def __init__(self):
            super().__init__()
            self.net[0].requires_grad_(False)

    with pytest.raises(ValueError, match=r"differs in 'net.0.weight', which is not trained here"):
        fit(tmp_path, Frozen(), ModeConnectivity(other))


def test_options_are_checked(tmp_path):
    for options, message in (
        ({"path": "straight"}, "`path` is"),
        ({"match": "units"}, "`match` is"),
        ({"steps": 0}, "`steps` is at least 1"),
        ({"points": 2}, "`points` is at least 3"),
        ({"learning_rate": 0.0}, "`learning_rate` is positive"),
        ({"batch_norm": "running"}, "`batch_norm` is"),
    ):
        with pytest.raises(ValueError, match=message):
            ModeConnectivity("x.ckpt", **options)
    with pytest.raises(ValueError, match="`layers` has 'nothing'"):
        fit(tmp_path, Network(), CKASimilarity(layers="nothing"))
    with pytest.raises(ValueError, match="`estimator` is"):
        CKASimilarity(estimator="honest")


def test_similarity_to_the_start_falls_from_one_and_is_that_of_two_modules(tmp_path):
    module, start = Network(), Network()
    fit(tmp_path, module, CKASimilarity(at_start=True, every_n_epochs=5))
    found = records(tmp_path)
    assert [record.global_step for record in found] == [3, 20, 40]
    batches = list(loader())
    expected = cka(start, module, batches, [f"net.{i}" for i in range(4)], forward=lambda m, batch: m.net(batch[0]))
    np.testing.assert_allclose(found[-1].arrays["similarity/cka"], expected.values, rtol=1e-5)
    assert found[-1].context["layers"] == ["net.0", "net.1", "net.2", "net.3"]
    means = [record.scalars["similarity/cka_mean"] for record in found]
    assert 1 > means[0] > means[1] > means[2]
    assert means[2] == pytest.approx(np.mean([found[-1].scalars[f"similarity/cka_net.{i}"] for i in range(4)]))


def test_similarity_to_a_checkpoint(tmp_path, other):
    module = Network()
    fit(tmp_path, module, CKASimilarity(other, layers="net.3", overhead_budget=0))
    (record,) = records(tmp_path)
    reference = Network()
    reference.load_state_dict(torch.load(other))
    expected = cka(module, reference, list(loader()), "net.3", forward=lambda m, batch: m.net(batch[0]))
    assert record.scalars["similarity/cka_net.3"] == pytest.approx(float(expected.values[0]), rel=1e-5)


def test_a_resumed_run_remembers_the_weights_at_the_very_start(tmp_path):
    whole, halves = Network(), Network()
    fit(tmp_path / "whole", whole, CKASimilarity(overhead_budget=0), max_epochs=4)
    trainer = fit(tmp_path / "first", halves, CKASimilarity(at_end=False, overhead_budget=0), max_epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = Network(seed=5)
    fit(
        tmp_path / "second",
        resumed,
        CKASimilarity(overhead_budget=0),
        max_epochs=4,
        ckpt_path=tmp_path / "half.ckpt",
        weights_only=False,
    )
    (expected,) = records(tmp_path / "whole")
    found = [
        r for path in tmp_path.rglob("records.jsonl") for r in read_records(path.parent.parent) if r.global_step == 16
    ]
    for record in found:
        np.testing.assert_allclose(record.arrays["similarity/cka"], expected.arrays["similarity/cka"], rtol=1e-6)
    assert len(found) == 2


def test_neither_changes_the_training(tmp_path, other):
    def weights(folder, *callbacks):
        module = Network()
        torch.manual_seed(3)
        fit(folder, module, *callbacks, max_epochs=3)
        return copy.deepcopy(module.state_dict()), torch.get_rng_state()

    bare, state = weights(tmp_path / "bare")
    watched, watched_state = weights(
        tmp_path / "watched", ModeConnectivity(other, steps=5, every_n_steps=3), CKASimilarity(every_n_steps=2)
    )
    for name, value in bare.items():
        assert torch.equal(value, watched[name])
    assert torch.equal(state, watched_state)
