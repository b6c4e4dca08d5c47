"""The splits of the learning rate that a training records are those of the function, on its held-out batches."""

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes import LossProbe
from lightning_regimes.callbacks import LayerSplit
from lightning_regimes.optim import LayerBalancedLR, layerwise_lr_groups, probe_layer_split
from lightning_regimes.recording import describe, read_records


class Network(L.LightningModule):
    def __init__(self, make_optimizer=None):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))
        self.make_optimizer = make_optimizer or (lambda it: torch.optim.SGD(it.parameters(), lr=0.3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return self.make_optimizer(self)


def loader():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 5, generator=generator)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=30)


def fit(folder, module, callback):
    trainer = L.Trainer(
        default_root_dir=folder,
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(module, loader())
    (path,) = folder.rglob("records.jsonl")
    return read_records(path.parent.parent)


def probes(module):
    first, second, *_ = loader()
    return (LossProbe(module, [batch], loss=lambda m, b: m.training_step(b, 0)) for batch in (first, second))


def test_what_is_recorded_is_that_of_the_function(tmp_path):
    module = Network()
    *_, record = fit(tmp_path, module, LayerSplit((1, 3), at_start=False, at_end=True, overhead_budget=0))
    for row, steps in zip(record.arrays["layer_split/losses"], (1, 3), strict=True):
        expected = probe_layer_split(*probes(module), learning_rate=0.3, steps=steps)
        np.testing.assert_allclose(row, expected.losses, rtol=1e-6)
        np.testing.assert_array_equal(record.arrays["layer_split/shares"], expected.splits[:, 0])
        best = int(row.argmin())
        assert record.scalars[f"layer_split/best_share_{steps}"] == expected.splits[best, 0]
        assert record.scalars[f"layer_split/gain_{steps}"] == pytest.approx(expected.equal - row[best], rel=1e-3)
    assert record.context["layers"] == ["net.0", "net.2", "net.4"]
    assert record.context["is_heldout"]
    # A gradient, and 12 more for each further step; 13 losses.
    assert record.scalars["layer_split/num_evaluations"] == 1 + 25 + 2 * 13
    for name in (*record.scalars, *record.arrays):
        assert describe(name).meaning


def test_the_mean_rate_is_that_which_a_schedule_conserves(tmp_path):
    def optimizer(module):
        made = torch.optim.SGD(layerwise_lr_groups(module, (2, 1, 0)), lr=0.2)
        return {"optimizer": made, "lr_scheduler": LayerBalancedLR(made)}

    record, *_ = fit(tmp_path, Network(optimizer), LayerSplit(overhead_budget=0))
    assert record.context["learning_rate"] == pytest.approx(0.2)


def test_a_single_batch_is_its_own_heldout(tmp_path):
    (record,) = fit(
        tmp_path, Network(), LayerSplit((1,), num_batches=1, layers=("net.0.*", "net.[24].*"), overhead_budget=0)
    )
    assert record.global_step == 0
    assert not record.context["is_heldout"]
    assert record.context["layers"] == ["net.0.*", "net.[24].*"]


def test_divergence_is_said(tmp_path):
    class Quartic(Network):
        def training_step(self, batch, batch_idx):
            return self.net[0](batch[0]).square().square().mean() + self.net[2].weight.square().square().sum()

    with pytest.warns(RuntimeWarning, match="all splits of 1e\\+38 diverge within 2 steps"):
        record, *_ = fit(tmp_path, Quartic(), LayerSplit((2,), learning_rate=1e38, overhead_budget=0))
    assert "layer_split/best_share_2" not in record.scalars


def test_budget_counts_gradients():
    module, callback = Network(), LayerSplit(num_batches=4)
    first, _ = probes(module)
    assert callback.try_unit(first, None, module) > 0
    assert callback.expected_units() == 2 * (1 + 12 + 1 + 24)


def test_what_is_wrong_is_said_before_training(tmp_path):
    for options, message in (({"steps": (0,)}, "`steps` are numbers"), ({"learning_rate": 0.0}, "is positive, got 0")):
        with pytest.raises(ValueError, match=message):
            LayerSplit(**options)
    with pytest.raises(ValueError, match="only SGD takes: give it for another optimizer, got AdamW"):
        fit(tmp_path, Network(lambda it: torch.optim.AdamW(it.parameters())), LayerSplit())
    single = Network()
    single.net = nn.Linear(5, 3)
    with pytest.raises(ValueError, match="two layers or more"):
        fit(tmp_path, single, LayerSplit())


def test_figure_has_theory_where_there_is_one():
    from lightning_regimes.callbacks.layer_split import draw_splits

    shares, losses = np.linspace(0, 1, 3), np.array([[3.0, 2.0, 1.0], [1.0, 0.5, 1.0]])
    panels = draw_splits((1, 2), shares, losses, losses, 2).axes
    assert [axes.get_title() for axes in panels] == ["after a step", "after 2 steps"]
    assert panels[1].lines[1].get_ydata().tolist() == [1.0, 0.5, 1.0]
    assert len(draw_splits((1,), shares, losses, None, 2).axes[0].lines) == 2
