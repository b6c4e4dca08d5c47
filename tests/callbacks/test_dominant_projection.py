import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.callbacks import DominantProjection
from lightning_regimes.optim import ProjectedOptimizer
from lightning_regimes.recording import read_records

SCALES = torch.tensor([5.0, 3.0, 1.0, 0.5, 0.3, 0.2])


class Regression(L.LightningModule):
    """A quadratic loss, ½ mean (x·w − y)²: its Hessian is the second moment of x."""

    def __init__(self, keep):
        super().__init__()
        self.linear = nn.Linear(6, 1, bias=False)
        self.keep = keep
        self.path = []

    def training_step(self, batch, batch_idx):
        return 0.5 * F.mse_loss(self.linear(batch[0]), batch[1])

    def on_train_batch_end(self, *args):
        self.path.append(self.linear.weight.detach().clone().flatten().double())

    def configure_optimizers(self):
        sgd = torch.optim.SGD(self.parameters(), lr=0.02)
        return sgd if self.keep is None else ProjectedOptimizer(sgd, keep=self.keep)


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 6, generator=generator) * SCALES
    return TensorDataset(x, x.sum(1, keepdim=True) + torch.randn(60, 1, generator=generator))


def fit(tmp_path, callback, keep, *, epochs=4, ckpt_path=None):
    torch.manual_seed(0)
    model = Regression(keep)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(model, DataLoader(data(), batch_size=16), ckpt_path=ckpt_path)
    return model, trainer


def records_of(tmp_path):
    (path,) = tmp_path.rglob("records.jsonl")
    return read_records(path.parent.parent)


@pytest.mark.parametrize("keep", ["dominant", "bulk"])
def test_steps_after_the_switch_lie_in_the_eigenvectors_of_all_data_or_outside(tmp_path, keep):
    model, _ = fit(tmp_path, DominantProjection(2, switch_step=8, tol=1e-6), keep)
    x, y = (t.double() for t in data().tensors)
    _, vectors = torch.linalg.eigh(x.T @ x / len(x))
    dominant = vectors[:, -2:]
    for step, (before, after) in enumerate(zip(model.path, model.path[1:], strict=False), start=1):
        update = after - before
        share = float((dominant.T @ update).square().sum() / update.square().sum())
        if step < 8:
            assert 1e-3 < share < 1 - 1e-9
        else:
            assert share == pytest.approx(float(keep == "dominant"), abs=1e-5)
    for record in records_of(tmp_path):
        assert record.scalars["projection/active"] == float(record.global_step >= 8)
        if record.global_step > 3:
            weights = model.path[record.global_step - 1]
            gradient = x.T @ (x @ weights - y.flatten()) / len(x)
            chi = float((dominant.T @ gradient).norm() / gradient.norm())
            assert record.scalars["projection/chi"] == pytest.approx(chi, abs=1e-4)


def test_the_average_starts_from_zero_and_decides(tmp_path):
    fit(tmp_path, DominantProjection(2, threshold=0.6, decay=0.5), "bulk")
    average, active = 0.0, False
    seen = []
    for record in records_of(tmp_path):
        average = 0.5 * average + 0.5 * record.scalars["projection/chi"]
        active = active or average >= 0.6
        assert record.scalars["projection/chi_average"] == pytest.approx(average)
        assert record.scalars["projection/active"] == float(active)
        seen.append(active)
    assert seen[0] is False
    assert seen[-1] is True


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    def callback():
        return DominantProjection(2, switch_step=4, every_n_steps=3)

    whole, _ = fit(tmp_path / "whole", callback(), "bulk")
    _, trainer = fit(tmp_path / "parts", callback(), "bulk", epochs=2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = fit(tmp_path / "parts", callback(), "bulk", ckpt_path=tmp_path / "half.ckpt")
    assert torch.equal(resumed.path[-1], whole.path[-1])


def test_a_training_without_the_optimizer_is_refused(tmp_path):
    with pytest.raises(ValueError, match="needs one ProjectedOptimizer among the optimizers of the training, got SGD"):
        fit(tmp_path, DominantProjection(2), None)


@pytest.mark.parametrize("options", [{"k": 0}, {"threshold": 1.5}, {"tol": 0.0}, {"decay": 1.0}, {"switch_step": -1}])
def test_unusable_options_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        DominantProjection(**options)
