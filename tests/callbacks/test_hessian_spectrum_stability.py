import lightning as L
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.callbacks import HessianSpectrum
from lightning_regimes.recording import read_records

CURVATURES = torch.tensor([8.0, 2.0, 0.5])


class Quadratic(L.LightningModule):
    """½ Σ λᵢ xᵢ², from a point where Adam's first step is known."""

    def __init__(self, **options):
        super().__init__()
        self.x = nn.Parameter(torch.tensor([1.0, -2.0, 4.0]))
        self.options = options

    def training_step(self, batch, batch_idx):
        return 0.5 * (CURVATURES * self.x.square()).sum()

    def configure_optimizers(self):
        return torch.optim.Adam([self.x], **self.options)


class Network(L.LightningModule):
    """A small network whose first weight matrix feeds two outputs that share nothing."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 2)

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.net(batch[0]), batch[0][:, :2])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def fit(tmp_path, module, callback, *, max_steps):
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_steps=max_steps,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(0))
    trainer.fit(module, DataLoader(TensorDataset(inputs), batch_size=16))
    (path,) = tmp_path.rglob("records.jsonl")
    return read_records(path.parent.parent)


def test_adam_is_judged_by_the_hessian_that_it_preconditions(tmp_path):
    lr, eps = 0.01, 1e-3
    module = Quadratic(lr=lr, eps=eps)
    gradient = CURVATURES * module.x.detach()
    (record,) = fit(tmp_path, module, HessianSpectrum(2, every_n_steps=1, num_trace_samples=0), max_steps=1)
    # After one step, the bias-corrected second moment is the square of the first gradient.
    sharpness = (CURVATURES / (gradient.abs() + eps)).max().item()
    threshold = (2 + 2 * 0.9) / ((1 - 0.9) * lr)
    assert record.scalars["hessian/preconditioned_lambda_1"] == pytest.approx(sharpness, rel=1e-5)
    assert record.scalars["hessian/preconditioned_stability_threshold"] == pytest.approx(threshold)
    assert record.scalars["hessian/sharpness_ratio"] == pytest.approx(sharpness / threshold, rel=1e-5)
    assert "hessian/stability_threshold" not in record.scalars
    assert record.scalars["hessian/lambda_1"] == pytest.approx(8.0, rel=1e-5)
    assert record.scalars["hessian/num_matvecs"] >= 3 + record.context["stability_num_matvecs"]


def test_adam_is_drawn_to_the_edge_of_stability(tmp_path):
    # With a constant preconditioner, above the threshold the iterates grow until the second moment has grown with
    # them: the ratio comes back to one from either side.
    module = Quadratic(lr=0.5, betas=(0.9, 0.99), eps=1e-8)
    records = fit(tmp_path, module, HessianSpectrum(2, every_n_steps=50, num_trace_samples=0), max_steps=2000)
    ratios = torch.tensor([record.scalars["hessian/sharpness_ratio"] for record in records[-20:]])
    assert 0.5 < ratios.median() < 1.5


def test_before_its_first_step_adam_has_no_preconditioner(tmp_path):
    callback = HessianSpectrum(2, at_start=True, overhead_budget=0.0, num_trace_samples=0)
    (record,) = fit(tmp_path, Quadratic(lr=0.01), callback, max_steps=1)
    assert "hessian/sharpness_ratio" not in record.scalars
    assert "step" in record.context["stability"]


def test_rows_that_share_nothing_hold_the_whole_hessian(tmp_path):
    callback = HessianSpectrum(2, every_n_steps=1, num_trace_samples=0, row_blocks=True)
    (record,) = fit(tmp_path, Network(), callback, max_steps=1)
    assert record.scalars["hessian/row_block_share"] == pytest.approx(1.0, abs=1e-5)
    ((name, rows, share, _, chance, _),) = record.tables["hessian/row_blocks"].rows
    assert (name, rows, chance) == ("net.weight", 2, 0.5)
    assert share == pytest.approx(1.0, abs=1e-5)


class TwoOptimizers(L.LightningModule):
    """Two quadratics, each with an optimizer of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.tensor([1.0, 1.0]))
        self.second = nn.Parameter(torch.tensor([1.0]))
        self.automatic_optimization = False

    def diagnostic_loss(self, batch):
        return 2.5 * self.first[0] ** 2 + self.first[1] ** 2 + 3.5 * self.second.square().sum()

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(self.diagnostic_loss(batch))
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self):
        return torch.optim.SGD([self.first], lr=0.02), torch.optim.SGD([self.second], lr=0.05, momentum=0.5)


@pytest.mark.parametrize(("index", "values", "threshold"), [(0, (5.0, 2.0), 2 / 0.02), (1, (7.0,), 3 / 0.05)])
def test_one_of_several_optimizers_is_looked_at(tmp_path, index, values, threshold):
    callback = HessianSpectrum(len(values), every_n_steps=2, num_trace_samples=0, optimizer_index=index)
    record = fit(tmp_path, TwoOptimizers(), callback, max_steps=2)[0]
    assert record.arrays["hessian/eigenvalues"] == pytest.approx(values, rel=1e-5)
    assert record.scalars["hessian/stability_threshold"] == pytest.approx(threshold)
    assert record.scalars["hessian/sharpness_ratio"] == pytest.approx(values[0] / threshold, rel=1e-5)


def test_an_optimizer_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="below the number of optimizers, 2, got 2"):
        fit(tmp_path, TwoOptimizers(), HessianSpectrum(1, optimizer_index=2), max_steps=2)
    with pytest.raises(ValueError, match="does not go with `parameters`"):
        HessianSpectrum(1, optimizer_index=0, parameters="net.*")
