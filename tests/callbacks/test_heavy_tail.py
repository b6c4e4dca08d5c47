"""The tails of weights and momenta that a training records are those of its matrices."""

import math

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import HeavyTail
from lightning_regimes.metrics import eigenvalue_tail
from lightning_regimes.recording import describe, read_records

MATRICES = ["net.0.weight", "net.3.weight"]


class Network(L.LightningModule):
    def __init__(self, make_optimizer=None):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10), nn.Tanh(), nn.Linear(10, 3)
        )
        self.make_optimizer = make_optimizer or (lambda it: torch.optim.SGD(it, lr=0.1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


def fit(folder, module, callback, max_epochs=3):
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(40, 1, 6, 6, generator=generator), torch.arange(40) % 3)
    trainer = L.Trainer(
        default_root_dir=folder,
        max_epochs=max_epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(module, DataLoader(data, batch_size=10))
    (path,) = folder.rglob("records.jsonl")
    return trainer, read_records(path.parent.parent)


@pytest.mark.parametrize(
    ("make_optimizer", "key"),
    [
        (lambda it: torch.optim.SGD(it, lr=0.1), None),
        (lambda it: torch.optim.SGD(it, lr=0.1, momentum=0.9), "momentum_buffer"),
        (lambda it: torch.optim.AdamW(it, lr=0.01), "exp_avg"),
    ],
)
def test_what_is_recorded_is_that_of_the_matrices(tmp_path, make_optimizer, key):
    module = Network(make_optimizer)
    trainer, (record,) = fit(tmp_path, module, HeavyTail(overhead_budget=0))
    weights = [module.net[0].weight, module.net[3].weight]
    tails = [eigenvalue_tail(weight) for weight in weights]
    flat = [np.linalg.svd(weight.detach().double().flatten(1).numpy(), compute_uv=False) for weight in weights]
    assert record.context["matrices"] == MATRICES
    np.testing.assert_allclose(record.arrays["heavy_tail/alphas"], [tail.alpha for tail in tails])
    np.testing.assert_allclose(record.arrays["heavy_tail/distances"], [tail.distance for tail in tails])
    np.testing.assert_allclose(record.arrays["heavy_tail/spectral_norms"], [values[0] for values in flat])
    ranks = [(values**2).sum() / values[0] ** 2 for values in flat]
    np.testing.assert_allclose(record.arrays["heavy_tail/stable_ranks"], ranks)
    alphas = record.arrays["heavy_tail/alphas"]
    assert record.scalars["heavy_tail/alpha_mean"] == pytest.approx(alphas.mean())
    assert record.scalars["heavy_tail/alpha_min"] == alphas.min()
    assert record.scalars["heavy_tail/alpha_max"] == alphas.max()
    assert record.scalars["heavy_tail/stable_rank_mean"] == pytest.approx(np.mean(ranks))
    assert record.scalars["heavy_tail/num_decompositions"] == (2 if key is None else 4)
    (table,) = record.tables.values()
    assert [row[:3] for row in table.rows] == [["net.0.weight", 8, 9], ["net.3.weight", 10, 128]]
    if key is None:
        assert "heavy_tail/momentum_alphas" not in record.arrays
        assert [row[-1] for row in table.rows] == [None, None]
    else:
        states = trainer.optimizers[0].state
        expected = [eigenvalue_tail(states[weight][key]).alpha for weight in weights]
        np.testing.assert_allclose(record.arrays["heavy_tail/momentum_alphas"], expected)
        assert record.scalars["heavy_tail/momentum_alpha_mean"] == pytest.approx(np.mean(expected))
        assert record.context["momentum"] == sorted(MATRICES)
    for name in (*record.scalars, *record.arrays, *record.tables):
        assert describe(name).meaning


def test_selection_and_schedule(tmp_path):
    module = Network(lambda it: torch.optim.SGD(it, lr=0.1, momentum=0.9))
    callback = HeavyTail("net.*.weight", min_size=3, momentum=False, every_n_steps=4, at_start=True)
    _, found = fit(tmp_path, module, callback)
    assert [record.global_step for record in found] == [0, 4, 8, 12]
    assert found[0].context == {"matrices": [*MATRICES, "net.5.weight"], "momentum": [], "num_batches": 1}


def test_budget_counts_decompositions_of_the_largest_matrix():
    """Which costs 10 · 128 · 10, and the other one 8 · 9 · 8."""
    module, callback = Network(), HeavyTail()
    probe = LossProbe(module, [(torch.ones(2, 1, 6, 6), torch.ones(2, dtype=torch.long))])
    assert callback.try_unit(probe, None, module) > 0
    assert callback.expected_units() == 2
    callback._momenta = {name: probe.parameters[name] for name in MATRICES}
    callback.try_unit(probe, None, module)
    assert callback.expected_units() == 3
    assert not callback._momenta


def test_a_matrix_without_a_tail_is_named(tmp_path):
    class Idle(Network):
        def __init__(self):
            super().__init__()
            self.idle = nn.Parameter(torch.zeros(9, 9))

    with pytest.warns(RuntimeWarning, match="HeavyTail finds no tail in idle, which has rank 0"):
        _, (record,) = fit(tmp_path, Idle(), HeavyTail(overhead_budget=0))
    alphas = record.arrays["heavy_tail/alphas"]
    assert np.isnan(alphas[0])
    assert record.scalars["heavy_tail/alpha_mean"] == pytest.approx(alphas[1:].mean())
    assert math.isfinite(record.scalars["heavy_tail/stable_rank_mean"])


def test_what_is_wrong_is_said_before_training(tmp_path):
    with pytest.raises(ValueError, match="`min_size` is at least 3"):
        HeavyTail(min_size=2)
    with pytest.raises(ValueError, match=r"`min_size`=8 rows and columns, got none that matches 'net.5.\*'"):
        fit(tmp_path, Network(), HeavyTail("net.5.*"))
    with pytest.raises(ValueError, match=r"`min_size`=100 rows and columns, got none$"):
        fit(tmp_path, Network(), HeavyTail(min_size=100))


def test_figure_has_a_bar_a_matrix(tmp_path):
    from lightning_regimes.callbacks.heavy_tail import draw_exponents

    axes = draw_exponents(["a", "b"], np.array([2.5, np.nan]), np.array([1.5, np.nan])).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [2.5, 0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
