"""The dominance of the diagonal that a training records is that of its momenta and gradients."""

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import DiagonalDominance
from lightning_regimes.optim import row_dominance
from lightning_regimes.recording import describe, read_records


class Network(L.LightningModule):
    def __init__(self, make_optimizer=None):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10), nn.Tanh(), nn.Linear(10, 3)
        )
        self.make_optimizer = make_optimizer or (lambda it: torch.optim.SGD(it.parameters(), lr=0.1))

    @property
    def weights(self):
        return {f"net.{index}.weight": self.net[index].weight for index in (0, 3, 5)}

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return self.make_optimizer(self)


class TwoOptimizers(Network):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def diagnostic_loss(self, batch):
        return super().training_step(batch, 0)

    def training_step(self, batch, batch_idx):
        loss = self.diagnostic_loss(batch)
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self):
        return [
            torch.optim.SGD(self.net[0].parameters(), lr=0.1),
            torch.optim.SGD([*self.net[3].parameters(), *self.net[5].parameters()], lr=0.1, momentum=0.9),
        ]


def loader():
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(40, 1, 6, 6, generator=generator), torch.arange(40) % 3)
    return DataLoader(data, batch_size=10)


def fit(folder, module, callback, max_epochs=3):
    trainer = L.Trainer(
        default_root_dir=folder,
        max_epochs=max_epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(module, loader())
    (path,) = folder.rglob("records.jsonl")
    return trainer, read_records(path.parent.parent)


def gradients(module, num_batches):
    loss = module.diagnostic_loss if isinstance(module, TwoOptimizers) else lambda batch: module.training_step(batch, 0)
    probe = LossProbe(module, list(loader())[:num_batches], loss=lambda _, batch: loss(batch))
    return dict(zip(probe.parameters, probe.unflatten(probe.gradient()), strict=True))


def check(record, module, expected):
    assert record.context["matrices"] == list(module.weights)
    for key, attribute in (("minima", "minimum"), ("means", "mean"), ("maxima", "maximum"), ("cosines", "cosine")):
        values = [getattr(row_dominance(carrier), attribute) for carrier in expected]
        np.testing.assert_allclose(record.arrays[f"dominance/{key}"], values, rtol=1e-4)
        scalar = {"minima": "r_min", "means": "r_avg", "maxima": "r_max", "cosines": "cosine"}[key]
        assert record.scalars[f"dominance/{scalar}"] == pytest.approx(np.mean(values), rel=1e-4)
    for name in (*record.scalars, *record.arrays, *record.tables):
        assert describe(name).meaning


@pytest.mark.parametrize(
    ("make_optimizer", "key"),
    [
        (lambda it: torch.optim.SGD(it.parameters(), lr=0.1, momentum=0.9), "momentum_buffer"),
        (lambda it: torch.optim.AdamW(it.parameters(), lr=0.01), "exp_avg"),
    ],
)
def test_momentum_is_looked_at_where_there_is_one(tmp_path, make_optimizer, key):
    module = Network(make_optimizer)
    trainer, (record,) = fit(tmp_path, module, DiagonalDominance(overhead_budget=0))
    check(record, module, [trainer.optimizers[0].state[weight][key] for weight in module.weights.values()])
    assert record.context["carrier"] == "momentum"
    assert record.scalars["dominance/num_evaluations"] == 0
    assert record.scalars["dominance/num_decompositions"] == 3


def test_the_gradient_on_the_probe_takes_its_place(tmp_path):
    module = Network()
    _, (record,) = fit(tmp_path, module, DiagonalDominance(overhead_budget=0, num_batches=2))
    of = gradients(module, 2)
    check(record, module, [of[name] for name in module.weights])
    assert record.context["carrier"] == "gradient"
    assert record.scalars["dominance/num_evaluations"] == 2


def test_before_the_first_step_there_is_no_momentum(tmp_path):
    module = Network(lambda it: torch.optim.AdamW(it.parameters(), lr=0.01))
    _, found = fit(tmp_path, module, DiagonalDominance(at_start=True, every_n_steps=6))
    assert [record.global_step for record in found] == [0, 6, 12]
    assert [record.context["carrier"] for record in found] == ["gradient", "momentum", "momentum"]


def test_each_matrix_has_what_its_own_optimizer_keeps(tmp_path):
    module = TwoOptimizers()
    trainer, (record,) = fit(tmp_path, module, DiagonalDominance(overhead_budget=0))
    state = trainer.optimizers[1].state
    carriers = [gradients(module, 1)["net.0.weight"]]
    carriers += [state[module.net[index].weight]["momentum_buffer"] for index in (3, 5)]
    check(record, module, carriers)
    assert record.context["carrier"] == "mixed"
    (table,) = record.tables.values()
    assert [row[3] for row in table.rows] == ["gradient", "momentum", "momentum"]


def test_budget_counts_the_gradient_where_it_is_needed():
    """The largest matrix costs 10 · 64 · 10, the others much less."""
    module, callback = Network(), DiagonalDominance()
    probe = LossProbe(module, list(loader())[:1])
    callback._momenta = {name: probe.parameters[name] for name in module.weights}
    assert callback.try_unit(probe, None, module) > 0
    assert callback.expected_units() == 2
    callback.try_unit(probe, None, module)
    assert callback.expected_units() >= 3


def test_a_gradient_of_zeros_is_named(tmp_path):
    class Idle(Network):
        def __init__(self):
            super().__init__()
            self.idle = nn.Parameter(torch.zeros(3, 3))

    with pytest.warns(RuntimeWarning, match="DiagonalDominance has no ratios for idle"):
        _, (record,) = fit(tmp_path, Idle(), DiagonalDominance(overhead_budget=0))
    assert np.isnan(record.arrays["dominance/means"][0])
    assert record.scalars["dominance/r_avg"] == pytest.approx(record.arrays["dominance/means"][1:].mean())


def test_what_is_wrong_is_said_before_training(tmp_path):
    with pytest.raises(ValueError, match="`max_rows` is at least 1"):
        DiagonalDominance(max_rows=0)
    with pytest.raises(ValueError, match=r"got none that matches 'net.0.bias'"):
        fit(tmp_path, Network(), DiagonalDominance("net.0.bias"))


def test_figure_shows_ranges_and_cosines():
    from lightning_regimes.callbacks.diagonal_dominance import draw_ratios

    values = {"minima": [0.5, 0.0], "means": [2.0, np.nan], "maxima": [8.0, np.inf], "cosines": [0.4, np.nan]}
    left, right = draw_ratios(["a", "b"], {f"dominance/{key}": np.array(own) for key, own in values.items()}).axes
    assert left.lines[0].get_xdata().tolist() == [2.0]
    assert [bar.get_width() for bar in right.patches] == [0.4, 0.0]
