import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.callbacks import GradientAlignment
from lightning_regimes.recording import read_records

SCALES = torch.tensor([5.0, 3.0, 1.0, 0.5, 0.3, 0.2])


class Regression(L.LightningModule):
    """A quadratic loss, ½ mean (x·w − y)²: its Hessian is the second moment of x."""

    def __init__(self, optimizer):
        super().__init__()
        self.linear = nn.Linear(6, 1, bias=False)
        self.make_optimizer = optimizer

    def training_step(self, batch, batch_idx):
        return 0.5 * F.mse_loss(self.linear(batch[0]), batch[1])

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=generator) * SCALES
    return TensorDataset(x, x.sum(1, keepdim=True) + torch.randn(64, 1, generator=generator))


def fit(tmp_path, callback, optimizer, *, epochs=3, weights=None):
    torch.manual_seed(0)
    model = Regression(optimizer)
    if weights is not None:
        model.linear.weight.data.copy_(weights)
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(model, DataLoader(data(), batch_size=16))
    (path,) = tmp_path.rglob("records.jsonl")
    return read_records(path.parent.parent), model


class Watch(GradientAlignment):
    """Keeps the weights before and after every step."""

    def reset(self):
        super().reset()
        self.weights = {}

    def on_train_batch_start(self, trainer, pl_module, *args):
        self.weights[trainer.global_step] = pl_module.linear.weight.detach().clone().double().flatten()
        super().on_train_batch_start(trainer, pl_module, *args)

    def on_train_batch_end(self, trainer, pl_module, *args):
        self.weights[trainer.global_step] = pl_module.linear.weight.detach().clone().double().flatten()
        super().on_train_batch_end(trainer, pl_module, *args)


@pytest.mark.parametrize(
    "optimizer",
    [lambda p: torch.optim.SGD(p, lr=0.02), lambda p: torch.optim.Adam(p, lr=0.05)],
    ids=["sgd", "adam"],
)
def test_measured_and_predicted_numbers_are_those_of_the_quadratic(tmp_path, optimizer):
    callback = Watch(2, every_n_steps=4, double_precision=True, tol=1e-8)
    records, _ = fit(tmp_path, callback, optimizer)
    x, y = (t.double() for t in data().tensors)
    hessian = x.T @ x / len(x)
    _, vectors = torch.linalg.eigh(hessian)
    dominant = vectors[:, -2:]

    def gradient(w):
        return x.T @ (x @ w - y.flatten()) / len(x)

    def theta(v):
        return float((dominant.T @ v).square().sum() / v.square().sum())

    def loss(w):
        return 0.5 * float((x @ w - y.flatten()).square().mean())

    measured = [record for record in records if "alignment/theta" in record.scalars]
    looked_back = [record for record in records if "alignment/theta_update" in record.scalars]
    assert [record.global_step for record in measured] == [4, 8, 12]
    assert [record.global_step for record in looked_back] == [5, 9]
    for record in measured:
        w = callback.weights[record.global_step]
        assert record.scalars["alignment/theta"] == pytest.approx(theta(gradient(w)), rel=1e-6)
        batches = [x[i : i + 16].T @ (x[i : i + 16] @ w - y[i : i + 16, 0]) / 16 for i in range(0, 64, 16)]
        mean_theta = sum(theta(g) for g in batches) / 4
        assert record.scalars["alignment/theta_batch"] == pytest.approx(mean_theta, rel=1e-5)
        assert record.scalars["alignment/chance"] == pytest.approx(2 / 6)
    assert measured[1].scalars["alignment/overlap"] == pytest.approx(1.0, abs=1e-6)
    for record in looked_back:
        before, after = callback.weights[record.global_step - 1], callback.weights[record.global_step]
        update = after - before
        assert record.scalars["alignment/theta_update"] == pytest.approx(theta(update), rel=1e-4)
        part = dominant @ (dominant.T @ update)
        assert record.scalars["alignment/predicted_change_dominant"] == pytest.approx(
            loss(before + part) - loss(before), rel=1e-4, abs=1e-7
        )
        assert record.scalars["alignment/realized_change_dominant"] == pytest.approx(
            loss(before + part) - loss(before), rel=1e-6, abs=1e-9
        )
        assert record.scalars["alignment/realized_change_bulk"] == pytest.approx(
            loss(after - part) - loss(before), rel=1e-6, abs=1e-9
        )
        predicted = sum(record.scalars[f"alignment/predicted_change_{name}"] for name in ("dominant", "bulk"))
        assert predicted == pytest.approx(loss(after) - loss(before), rel=1e-4, abs=1e-7)
        assert record.scalars["alignment/realized_change"] == pytest.approx(predicted, rel=1e-4, abs=1e-7)
        assert record.scalars["alignment/predicted_theta"] == pytest.approx(theta(gradient(after)), rel=1e-4)


def test_the_step_size_is_held_against_the_thresholds_for_plain_sgd_only(tmp_path):
    records, _ = fit(tmp_path / "sgd", GradientAlignment(2, every_n_steps=4), lambda p: torch.optim.SGD(p, lr=0.02))
    assert records[0].scalars["alignment/step_size"] == 0.02
    assert records[0].scalars["alignment/suspicious"] in (0.0, 1.0)
    records, _ = fit(tmp_path / "adam", GradientAlignment(2, every_n_steps=4), lambda p: torch.optim.Adam(p, lr=0.02))
    assert "alignment/step_size" not in records[0].scalars


def test_phases_follow_the_alignment(tmp_path):
    # From far away along the dominant direction, small steps remove it first.
    weights = torch.tensor([[50.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    callback = GradientAlignment(1, every_n_steps=2, num_batches=4)
    records, _ = fit(tmp_path, callback, lambda p: torch.optim.SGD(p, lr=0.02), epochs=6, weights=weights)
    phases = [record.text["alignment/phase"] for record in records if record.text]
    thetas = [record.scalars["alignment/theta"] for record in records if record.text]
    assert phases[0] == "HIGH"
    for before, after, phase in zip(thetas, thetas[1:], phases[1:], strict=False):
        assert phase == ("HIGH" if after > 0.5 else "RISING" if after > before else "DECREASING")
    assert len(set(phases)) >= 2


@pytest.mark.parametrize("options", [{"k": 0}, {"tol": 2.0}, {"num_batches": 1}])
def test_unusable_options_are_named(options):
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        GradientAlignment(**options)


def test_a_dominant_subspace_without_a_bulk_is_refused_before_training(tmp_path):
    with pytest.raises(ValueError, match="leaves no bulk among 6 parameters"):
        fit(tmp_path, GradientAlignment(6), lambda p: torch.optim.SGD(p, lr=0.1))
