"""A training with diagnostics is the training without them, to the last bit."""

import copy
import random

import lightning as L
import numpy as np
import pytest
import torch
import torchmetrics
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.callbacks import (
    CKASimilarity,
    DiagonalDominance,
    GradientAlignment,
    HeavyTail,
    HessianSpectrum,
    LayerSplit,
    LossLandscape,
    RegimeDetection,
)

OUR_KEYS = (
    "alignment/",
    "hessian/",
    "regime/",
    "field/",
    "landscape/",
    "similarity/",
    "heavy_tail/",
    "dominance/",
    "layer_split/",
)


class NoisyClassifier(L.LightningModule):
    """Batch norm, dropout, metrics, collected outputs, random numbers in the step."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))
        self.accuracy = torchmetrics.Accuracy("multiclass", num_classes=3)
        self.val_accuracy = torchmetrics.Accuracy("multiclass", num_classes=3)
        self.outputs = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        noise = 0.1 * torch.randn_like(x) + 0.01 * float(np.random.rand()) + 0.01 * random.random()
        logits = self.net(x + noise)
        loss = F.cross_entropy(logits, y)
        self.accuracy(logits, y)
        self.outputs.append(loss.detach())
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self):
        self.log("mean_of_outputs", torch.stack(self.outputs).mean())
        self.outputs.clear()

    def validation_step(self, batch, batch_idx):
        x, y = batch
        logits = self.net(x)
        self.val_accuracy(logits, y)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_accuracy", self.val_accuracy)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1)]


class ManualClassifier(NoisyClassifier):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        optimizer.step()

    def diagnostic_loss(self, batch):
        return F.cross_entropy(self.net(batch[0]), batch[1])


class FailsWhenProbed(NoisyClassifier):
    """Raises in the middle of a step as soon as it runs in evaluation mode, that is, inside a probe."""

    def training_step(self, batch, batch_idx):
        if not self.training:
            self.outputs.append("garbage")
            torch.randn(3)
            raise ArithmeticError("inside the probe")
        return super().training_step(batch, batch_idx)


class WithLBFGS(NoisyClassifier):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 3))

    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), max_iter=4, line_search_fn="strong_wolfe")


class Memory(Logger):
    """Keeps what it is given."""

    def __init__(self):
        super().__init__()
        self.rows = []

    name = "memory"
    version = 0

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, *args, **kwargs):
        pass


def data(seed, size):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 8, generator=generator)
    return TensorDataset(x, x[:, :3].argmax(1))


def run(tmp_path, make_model, callbacks, *, logger=None, **options):
    """Train and return everything that must not depend on the callbacks."""
    L.seed_everything(1, verbose=False)
    memory = Memory()
    trainer = L.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        max_epochs=2,
        val_check_interval=0.5,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=callbacks,
        logger=[memory] if logger is None else [memory, logger],
        **options,
    )
    model = make_model()
    trainer.fit(
        model,
        DataLoader(data(0, 100), batch_size=10, shuffle=True),
        DataLoader(data(1, 20), batch_size=10),
    )
    rows = [(step, {k: v for k, v in row.items() if not k.startswith(OUR_KEYS)}) for step, row in memory.rows]
    return {
        "weights": copy.deepcopy(model.state_dict()),
        "optimizer": copy.deepcopy(trainer.optimizers[0].state_dict()),
        "grads": [p.grad.clone() for p in model.parameters() if p.grad is not None],
        "torch_rng": torch.get_rng_state(),
        "numpy_rng": np.random.get_state()[1].tolist(),
        "python_rng": random.getstate(),
        "modes": [m.training for m in model.modules()],
        "rows": [(step, row) for step, row in rows if row],
        "callback_metrics": {k: v for k, v in trainer.callback_metrics.items() if not k.startswith(OUR_KEYS)},
    }


def same(first, second, path="run"):
    """Assert bitwise equality of nested structures."""
    assert type(first) is type(second), path
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key in first:
            same(first[key], second[key], f"{path}.{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), path
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            same(a, b, f"{path}[{index}]")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), path
    else:
        assert first == second, path


CALLBACKS = {
    "spectrum": lambda: [HessianSpectrum(3, every_n_steps=2, num_trace_samples=3, at_start=True, at_end=True)],
    "spectrum_of_batch_statistics": lambda: [HessianSpectrum(2, every_n_epochs=1, mode="train", num_batches=3)],
    "spectrum_in_double": lambda: [HessianSpectrum(2, every_n_steps=7, double_precision=True)],
    "regime": lambda: [RegimeDetection(every_n_steps=3, error_metric="val_loss")],
    "alignment": lambda: [GradientAlignment(2, every_n_steps=3, num_batches=2)],
    "density": lambda: [HessianSpectrum(2, every_n_steps=5, density_vectors=2, density_steps=3, row_blocks=True)],
    "shared_eigenvectors": lambda: [
        HessianSpectrum(2, every_n_steps=3, num_batches=2),
        GradientAlignment(2, every_n_steps=3, num_batches=2),
    ],
    "landscape": lambda: [LossLandscape(every_n_steps=4, points=5, trajectory=8)],
    "landscape_with_statistics": lambda: [
        LossLandscape(1, every_n_epochs=1, points=5, directions="gradient", batch_norm="recompute", num_batches=2)
    ],
    "similarity": lambda: [CKASimilarity(every_n_steps=4, num_batches=2)],
    "heavy_tail": lambda: [HeavyTail(every_n_steps=3, at_start=True, min_size=3)],
    "dominance": lambda: [DiagonalDominance(every_n_steps=3, at_start=True, num_batches=2)],
    "layer_split": lambda: [LayerSplit(learning_rate=0.1, every_n_steps=4)],
    "budgeted": lambda: [HessianSpectrum(1, overhead_budget=0.9), RegimeDetection(overhead_budget=0.9)],
}
SCENARIOS = {
    "adamw": (NoisyClassifier, {}),
    "accumulation": (NoisyClassifier, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}),
    "bf16": (NoisyClassifier, {"precision": "bf16-mixed"}),
    "manual": (ManualClassifier, {}),
    "lbfgs": (WithLBFGS, {}),
    "exception": (FailsWhenProbed, {}),
}


@pytest.fixture(scope="module")
def bare_runs(tmp_path_factory):
    results = {}

    def bare(scenario):
        if scenario not in results:
            make_model, options = SCENARIOS[scenario]
            results[scenario] = run(tmp_path_factory.mktemp(scenario), make_model, [], **options)
        return results[scenario]

    return bare


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("callbacks", CALLBACKS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_training_is_bitwise_the_same(tmp_path, bare_runs, scenario, callbacks):
    make_model, options = SCENARIOS[scenario]
    watched = run(tmp_path, make_model, CALLBACKS[callbacks](), **options)
    same(watched, bare_runs(scenario))


@pytest.mark.parametrize("kind", ["csv", "tensorboard", "wandb"])
def test_training_is_bitwise_the_same_with_every_logger(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")

    def logger(name):
        if kind == "csv":
            return CSVLogger(tmp_path / name)
        if kind == "tensorboard":
            return TensorBoardLogger(tmp_path / name)
        return WandbLogger(save_dir=tmp_path / name, offline=True, id=f"id-{name}")

    try:
        (tmp_path / "bare").mkdir()
        (tmp_path / "watched").mkdir()
        bare = run(tmp_path, NoisyClassifier, [], logger=logger("bare"))
        if kind == "wandb":
            import wandb

            wandb.finish()
        callbacks = [*CALLBACKS["spectrum"](), *CALLBACKS["regime"]()]
        same(run(tmp_path, NoisyClassifier, callbacks, logger=logger("watched")), bare)
    finally:
        if kind == "wandb":
            wandb.finish()


def test_the_comparison_sees_a_careless_observer(tmp_path):
    class Careless(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            pl_module.training_step(batch, batch_idx)

    careless = run(tmp_path, NoisyClassifier, [Careless()])
    with pytest.raises(AssertionError):
        same(careless, run(tmp_path, NoisyClassifier, []))


def test_measurements_were_really_taken_in_the_middle_of_training(tmp_path):
    callbacks = [*CALLBACKS["spectrum"](), *CALLBACKS["regime"]()]
    torch.manual_seed(0)
    trainer = L.Trainer(
        default_root_dir=tmp_path, max_steps=6, logger=False, enable_progress_bar=False, callbacks=callbacks
    )
    trainer.fit(NoisyClassifier(), DataLoader(data(0, 100), batch_size=10), DataLoader(data(1, 20), batch_size=10))
    assert trainer.callback_metrics["hessian/lambda_1"] > 0
    assert trainer.callback_metrics["regime/normalized_loss"] > 0
