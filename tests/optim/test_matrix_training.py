"""Matrix optimizers in Lightning: one optimizer, so that everything that Lightning does with one works."""

import warnings
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.optim import (
    RMNP,
    HTMuon,
    HTMuonFactory,
    Muon,
    MuonFactory,
    RMNPFactory,
    cosine_with_warmup,
    tag_parameters,
)

FACTORIES = {
    "muon": MuonFactory(normuon_beta2=0.95),
    "rmnp": RMNPFactory(lr=2e-2, cautious_weight_decay=True),
    "htmuon": HTMuonFactory(lr=2e-2, interval=3, normalize="rms"),
}
every_factory = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)


class Regression(L.LightningModule):
    batch_size = 16

    def __init__(self, factory=None, schedule=None):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Embedding(9, 6), nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 1))
        self.factory, self.schedule = factory, schedule
        tag_parameters(self)
        self.losses, self.rates = [], []

    def training_step(self, batch, batch_idx):
        tokens, targets = batch
        loss = (self.network(tokens).squeeze(1) - targets).square().mean()
        self.losses.append(float(loss.detach()))
        self.rates.append([group["lr"] for group in self.optimizers().param_groups])
        return loss

    def configure_optimizers(self):
        return type(self.factory)(**vars(self.factory) | {"lr_scheduler": self.schedule})(self)

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randint(9, (96, 2), generator=generator)
        return DataLoader(TensorDataset(tokens, tokens.float().sin().prod(1)), batch_size=self.batch_size)


def trainer(folder, **options):
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    settings |= {"default_root_dir": folder, "enable_checkpointing": False, "max_steps": 18}
    return L.Trainer(**settings | options)


def fit(module, trainer_, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*num_workers|.*log_every_n_steps")
        torch.manual_seed(2)
        trainer_.fit(module, **options)
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


@every_factory
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_trains_with_clipping_accumulation_and_mixed_precision(factory, precision, tmp_path):
    module = Regression(factory)
    options = {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2, "precision": precision, "max_steps": 60}
    fit(module, trainer(tmp_path, **options))
    assert sum(module.losses[-6:]) < 0.6 * sum(module.losses[:6])


@every_factory
def test_a_resumed_training_is_the_one_that_went_through(factory, tmp_path):
    schedule = partial(cosine_with_warmup, total_steps=18)
    keeper = ModelCheckpoint(tmp_path, filename="{step}", every_n_epochs=1, save_top_k=-1)
    whole = fit(WholeBatches(factory, schedule), trainer(tmp_path, enable_checkpointing=True, callbacks=[keeper]))
    module = WholeBatches(factory, schedule)
    resumed = fit(module, trainer(tmp_path), ckpt_path=tmp_path / "step=12.ckpt", weights_only=True)
    assert len(module.losses) == 6
    assert torch.equal(resumed, whole)


def test_a_scheduler_drives_both_parts(tmp_path):
    module = Regression(RMNPFactory(lr=1e-2, adamw_lr=1e-3), partial(cosine_with_warmup, total_steps=10, warmup=0.5))
    fit(module, trainer(tmp_path, max_steps=5))
    expected = [[1e-2 * step / 5, 1e-3 * step / 5, 1e-3 * step / 5] for step in range(1, 6)]
    for rates, expected_rates in zip(module.rates, expected, strict=True):
        assert rates == pytest.approx(expected_rates)


class WholeBatches(Regression):
    # A resumed Trainer does not go on in the middle of a loader.
    batch_size = 96


class Bare(Regression):
    configure_optimizers = L.LightningModule.configure_optimizers


@pytest.mark.parametrize(
    ("optimizer_class", "setting"),
    [(RMNP, ("power", 0.25)), (Muon, ("ns_dtype", "float64")), (HTMuon, ("normalize", "rms"))],
)
def test_the_command_line_hands_over_bare_parameters(optimizer_class, setting, tmp_path):
    arguments = [
        "fit",
        f"--optimizer=lightning_regimes.optim.{optimizer_class.__name__}",
        "--optimizer.lr=0.01",
        "--optimizer.adamw_lr=0.001",
        f"--optimizer.{setting[0]}={setting[1]}",
        "--lr_scheduler=torch.optim.lr_scheduler.ExponentialLR",
        "--lr_scheduler.gamma=0.5",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
        "--trainer.logger=false",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.enable_checkpointing=false",
        f"--trainer.default_root_dir={tmp_path}",
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cli = LightningCLI(Bare, save_config_callback=None, args=arguments, seed_everything_default=0)
    assert not [warning for warning in caught if "tag_parameters" in str(warning.message)]
    optimizer = cli.trainer.optimizers[0]
    assert type(optimizer) is optimizer_class
    network = cli.model.network
    held = {group["algorithm"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}
    assert held["matrix"] == {id(network[2].weight), id(network[4].weight)}
    assert held["adamw"] == {id(p) for p in network.parameters()} - held["matrix"]
    assert optimizer.param_groups[0][setting[0]] == setting[1]
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.0025, 0.00025])
