"""AdamW, Muon, RMNP and HTMuon at tuned learning rates and equal routing, on real data, with three seeds.

``python examples/compare_optimizers.py digits`` trains a convolutional classifier of handwritten digits, ``... text`` a
small language model on text that ships with Python. Each optimizer gets the learning rate of a common grid that is best
with the first seed; the AdamW part has the same rate for all, that of the best AdamW. All get the same matrices: AdamW
trains them itself. Writes ``optimizers_digits.png`` and prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import nn

from lightning_regimes.datamodules import HandwrittenDigits, TextTokens
from lightning_regimes.modules import Classifier, Llama
from lightning_regimes.networks import LlamaConfiguration
from lightning_regimes.optim import (
    AdamFactory,
    CosineWithWarmup,
    HTMuonFactory,
    MuonFactory,
    OptimizerFactory,
    RMNPFactory,
)

SEEDS = (0, 1, 2)
OPTIMIZERS = ("AdamW", "Muon", "RMNP", "HTMuon")
COLOURS = ("#667080", "#3056d3", "#1a7f4b", "#c2501c")


@dataclass(frozen=True)
class Task:
    """What is trained, for how long, and on which learning rates the optimizers are tried."""

    steps: int
    check_every: int
    adamw_rates: tuple[float, ...]
    matrix_rates: tuple[float, ...]
    make: Callable[[OptimizerFactory], tuple[L.LightningModule, L.LightningDataModule]]


def digits(optimizer: OptimizerFactory) -> tuple[L.LightningModule, L.LightningDataModule]:
    """Return a convolutional classifier of 8 x 8 pixels, and the handwritten digits."""
    network = nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 32, 3, padding=1, bias=False),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 4, 10),
    )
    return Classifier(network=network, optimizer=optimizer), HandwrittenDigits()


def text(optimizer: OptimizerFactory) -> tuple[L.LightningModule, L.LightningDataModule]:
    """Return a language model of 0.9 million parameters, and Python's own text, byte by byte."""
    configuration = LlamaConfiguration(
        hidden_size=128, num_layers=4, num_heads=4, intermediate_size=344, vocab_size=256
    )
    return (
        Llama(configuration, warmup=None, optimizer=optimizer),
        TextTokens(max_bytes=2_000_000, sequence_length=128, batch_size=8, validation_share=0.03),
    )


TASKS = {
    "digits": Task(300, 25, (1e-3, 3e-3, 1e-2, 3e-2), (1e-3, 3e-3, 1e-2, 3e-2), digits),
    "text": Task(400, 50, (1e-3, 3e-3, 1e-2), (3e-3, 1e-2, 3e-2), text),
}


def factory(name: str, lr: float, adamw_lr: float, steps: int) -> OptimizerFactory:
    """Return an optimizer with the schedule, the decay and the routing that all have."""

    def schedule(optimizer: torch.optim.Optimizer) -> CosineWithWarmup:
        return CosineWithWarmup(optimizer, total_steps=steps)

    if name == "AdamW":
        return AdamFactory(lr=lr, betas=(0.9, 0.95), weight_decay=0.1, lr_scheduler=schedule)
    settings: dict[str, Any] = {"lr": lr, "adamw_lr": adamw_lr, "weight_decay": 0.1, "lr_scheduler": schedule}
    if name == "Muon":
        return MuonFactory(**settings)
    if name == "RMNP":
        return RMNPFactory(**settings)
    return HTMuonFactory(normalize="rms", **settings)


class ValidationLoss(Callback):
    """Notes the validation loss, and the time that training alone has taken."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.seconds = 0.0
        self._start = 0.0

    def on_train_batch_start(self, *arguments: Any) -> None:
        self._start = time.thread_time()

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.seconds += time.thread_time() - self._start

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.steps.append(trainer.global_step)
        self.losses.append(float(trainer.callback_metrics["val/loss"]))


def train(task: Task, optimizer: OptimizerFactory, seed: int) -> ValidationLoss:
    """Train with a seed; a loss that is not finite counts as infinite."""
    L.seed_everything(seed, verbose=False)
    module, datamodule = task.make(optimizer)
    watch = ValidationLoss()
    with tempfile.TemporaryDirectory() as directory:
        trainer = L.Trainer(
            accelerator="cpu",
            max_steps=task.steps,
            max_epochs=-1,
            val_check_interval=task.check_every,
            check_val_every_n_epoch=None,
            num_sanity_val_steps=0,
            default_root_dir=directory,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            gradient_clip_val=1.0,
            callbacks=[watch],
        )
        try:
            trainer.fit(module, datamodule)
        except RuntimeError as error:
            if "finite" not in str(error):
                raise
            watch.losses.append(math.inf)
            watch.steps.append(trainer.global_step)
    return watch


def tuned(task: Task) -> dict[str, tuple[float, list[ValidationLoss]]]:
    """Return the best learning rate of each optimizer, and its trainings."""
    found: dict[str, tuple[float, list[ValidationLoss]]] = {}
    adamw_lr = 0.0
    for name in OPTIMIZERS:
        first: dict[float, ValidationLoss] = {}
        for lr in task.adamw_rates if name == "AdamW" else task.matrix_rates:
            first[lr] = train(task, factory(name, lr, adamw_lr, task.steps), SEEDS[0])
            print(f"{name}, learning rate {lr:g}: validation loss {first[lr].losses[-1]:.4f}", flush=True)
        best = min(first, key=lambda lr: first[lr].losses[-1])
        adamw_lr = best if name == "AdamW" else adamw_lr
        others = [train(task, factory(name, best, adamw_lr, task.steps), seed) for seed in SEEDS[1:]]
        found[name] = (best, [first[best], *others])
    return found


def draw(found: dict[str, tuple[float, list[ValidationLoss]]], title: str) -> Figure:
    """Draw the mean validation loss over the steps, and the range over the seeds."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.subplots()
    for (name, (lr, runs)), colour in zip(found.items(), COLOURS, strict=True):
        losses = np.array([run.losses for run in runs])
        axes.fill_between(runs[0].steps, losses.min(0), losses.max(0), color=colour, alpha=0.18, linewidth=0)
        axes.plot(runs[0].steps, losses.mean(0), color=colour, label=f"{name}, rate {lr:g}")
    axes.set(xlabel="step", ylabel="validation loss", yscale="log", title=title)
    axes.legend(frameon=False)
    return figure


def table(found: dict[str, tuple[float, list[ValidationLoss]]]) -> str:
    """Return the last validation losses in Markdown, and the CPU time of a step against AdamW's."""
    rows = ["| optimizer | learning rate | validation loss | least and most of the seeds | CPU time of a step |"]
    rows.append("|---|---|---|---|---|")
    base = np.mean([run.seconds for run in found["AdamW"][1]])
    for name, (lr, runs) in found.items():
        last = np.array([run.losses[-1] for run in runs])
        ratio = np.mean([run.seconds for run in runs]) / base
        rows.append(f"| {name} | {lr:g} | {last.mean():.4f} | {last.min():.4f} to {last.max():.4f} | {ratio:.2f} |")
    return "\n".join(rows)


def main() -> None:
    """Tune, repeat, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--output", help="file of the figure; default optimizers_TASK.png")
    arguments = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = tuned(TASKS[arguments.task])
    title = {"digits": "handwritten digits, convolutional network", "text": "Python's text, language model"}
    draw(found, title[arguments.task]).savefig(arguments.output or f"optimizers_{arguments.task}.png", dpi=150)
    print(table(found))


if __name__ == "__main__":
    main()
