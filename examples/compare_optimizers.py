"""AdamW, Muon, RMNP and HTMuon at tuned learning rates and equal routing, on real data, with three seeds.

``python examples/compare_optimizers.py digits`` trains a convolutional classifier of handwritten digits, ``... text`` a
small language model on text that ships with Python. Each optimizer gets the learning rate of a common grid that is best
with the first seed, and the grid goes on while that is the last one on either side; the AdamW part has the same rate
for all, that of the best AdamW. All get the same matrices: AdamW trains them itself. With the first seed, the spectra
of these matrices and of their momenta are followed over the steps: the exponents of their tails, and how far the rows
of a momentum are at right angles. Writes ``optimizers_digits.png`` and prints tables in Markdown.
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
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import nn

from lightning_regimes.callbacks import DiagonalDominance, HeavyTail
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
    route_parameters,
)
from lightning_regimes.recording import read_records

SEEDS = (0, 1, 2)
RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
OPTIMIZERS = ("AdamW", "Muon", "RMNP", "HTMuon")
COLOURS = ("#667080", "#3056d3", "#1a7f4b", "#c2501c")

#: Keys of what is followed over the steps.
TAILS = ("heavy_tail/alpha_mean", "heavy_tail/momentum_alpha_mean")
RATIOS = ("dominance/r_min", "dominance/r_avg", "dominance/r_max")
COSINE = "dominance/cosine"


@dataclass(frozen=True)
class Task:
    """What is trained, for how long, and on which of ``RATES`` the optimizers are tried first."""

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
        TextTokens(max_bytes=2_000_000, sequence_length=128, batch_size=8, validation_share=0.02),
    )


TASKS = {
    "digits": Task(300, 25, (1e-3, 3e-3, 1e-2, 3e-2), (1e-3, 3e-3, 1e-2, 3e-2), digits),
    "text": Task(250, 50, (1e-3, 3e-3, 1e-2), (3e-3, 1e-2, 3e-2), text),
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
    """Notes the validation loss, and the time that training alone has taken.

    Attributes:
        traces: keys of what diagnostics recorded, each with steps and values.
    """

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.losses: list[float] = []
        self.seconds = 0.0
        self.traces: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._start = 0.0

    def on_train_batch_start(self, *arguments: Any) -> None:
        self._start = time.thread_time()

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.seconds += time.thread_time() - self._start

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.steps.append(trainer.global_step)
        self.losses.append(float(trainer.callback_metrics["val/loss"]))


def diagnostics(module: L.LightningModule, every: int) -> list[Callback]:
    """Return what follows the spectra of the matrices that the optimizers treat as such."""
    matrices = [name for name, _ in route_parameters(module).named("matrix")]
    return [HeavyTail(matrices, every_n_steps=every), DiagonalDominance(matrices, every_n_steps=every)]


def traces_under(directory: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the steps and the values of each key that is followed."""
    (journal,) = Path(directory).rglob("records.jsonl")
    records = read_records(journal.parent.parent)
    found = {}
    for key in (*TAILS, *RATIOS, COSINE):
        points = {record.global_step: record.scalars[key] for record in records if key in record.scalars}
        found[key] = np.array(list(points)), np.array(list(points.values()))
    return found


def train(task: Task, optimizer: OptimizerFactory, seed: int) -> ValidationLoss:
    """Train with a seed, the first of which is followed; a loss that is not finite counts as infinite."""
    L.seed_everything(seed, verbose=False)
    module, datamodule = task.make(optimizer)
    watch = ValidationLoss()
    followed = diagnostics(module, max(1, task.check_every // 5)) if seed == SEEDS[0] else []
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
            callbacks=[watch, *followed],
        )
        try:
            trainer.fit(module, datamodule)
        except RuntimeError as error:
            if "finite" not in str(error):
                raise
            watch.losses.append(math.inf)
            watch.steps.append(trainer.global_step)
        if followed:
            watch.traces = traces_under(directory)
    return watch


def best_rate(first: dict[float, ValidationLoss]) -> float:
    """Return the learning rate with the least validation loss at the end."""
    return min(first, key=lambda lr: first[lr].losses[-1])


def beyond(first: dict[float, ValidationLoss]) -> list[float]:
    """Return the next learning rate of the grid where the best one has none beside it on one side, and else nothing."""
    index = RATES.index(best_rate(first))
    return [lr for lr in RATES[max(0, index - 1) : index + 2] if lr not in first][:1]


def tuned(task: Task) -> dict[str, tuple[float, list[ValidationLoss]]]:
    """Return the best learning rate of each optimizer, and its trainings."""
    found: dict[str, tuple[float, list[ValidationLoss]]] = {}
    adamw_lr = 0.0
    for name in OPTIMIZERS:
        first: dict[float, ValidationLoss] = {}
        rates = list(task.adamw_rates if name == "AdamW" else task.matrix_rates)
        while rates:
            lr = rates.pop(0)
            first[lr] = train(task, factory(name, lr, adamw_lr, task.steps), SEEDS[0])
            print(f"{name}, learning rate {lr:g}: validation loss {first[lr].losses[-1]:.4f}", flush=True)
            rates = rates or beyond(first)
        best = best_rate(first)
        adamw_lr = best if name == "AdamW" else adamw_lr
        others = [train(task, factory(name, best, adamw_lr, task.steps), seed) for seed in SEEDS[1:]]
        found[name] = (best, [first[best], *others])
    return found


def draw(found: dict[str, tuple[float, list[ValidationLoss]]], title: str) -> Figure:
    """Draw the validation loss, mean and range of the seeds, above what was followed with the first of them."""
    figure = Figure(figsize=(6.4, 8.4), layout="constrained")
    above, middle, below = figure.subplots(3, sharex=True)
    for (name, (lr, runs)), colour in zip(found.items(), COLOURS, strict=True):
        losses = np.array([run.losses for run in runs])
        above.fill_between(runs[0].steps, losses.min(0), losses.max(0), color=colour, alpha=0.18, linewidth=0)
        above.plot(runs[0].steps, losses.mean(0), color=colour, label=f"{name}, rate {lr:g}")
        for key, style in zip(TAILS, ("-", "--"), strict=True):
            middle.plot(*runs[0].traces[key], style, color=colour)
        for key, style, width in zip(RATIOS, (":", "-", ":"), (1.0, 1.6, 1.0), strict=True):
            below.plot(*runs[0].traces[key], style, color=colour, linewidth=width)
    above.set(ylabel="validation loss", yscale="log", title=title)
    above.legend(frameon=False)
    middle.set(ylabel="tail exponent α", yscale="log")
    middle.set_title("weights (solid) and momenta (dashed), mean over the matrices", fontsize="medium")
    below.axhline(1, color="0.5", linewidth=0.8)
    below.set(xlabel="step", ylabel="diagonal dominance r", yscale="log")
    below.set_title("momenta: mean over the rows (solid), least and largest (dotted)", fontsize="medium")
    for axes in (above, middle):  # less than a decade, so that the labels are those between powers of ten
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
    return figure


def table(found: dict[str, tuple[float, list[ValidationLoss]]]) -> str:
    """Return the last validation losses in Markdown, and the CPU time of a bare step against AdamW's."""
    rows = ["| optimizer | learning rate | validation loss | least and most of the seeds | CPU time of a step |"]
    rows.append("|---|---|---|---|---|")
    base = np.mean([run.seconds for run in found["AdamW"][1][1:]])
    for name, (lr, runs) in found.items():
        last = np.array([run.losses[-1] for run in runs])
        ratio = np.mean([run.seconds for run in runs[1:]]) / base
        rows.append(f"| {name} | {lr:g} | {last.mean():.4f} | {last.min():.4f} to {last.max():.4f} | {ratio:.2f} |")
    return "\n".join(rows)


def trace_table(found: dict[str, tuple[float, list[ValidationLoss]]]) -> str:
    """Return in Markdown what was followed, at the first measurement and at the last."""
    headings = ("α of weights", "α of momenta", "r_min", "r_avg", "r_max", "cosine of RMNP and Muon")
    rows = [f"| optimizer | {' | '.join(headings)} |", "|---" * (1 + len(headings)) + "|"]
    for name, (_, runs) in found.items():
        values = [runs[0].traces[key][1] for key in (*TAILS, *RATIOS, COSINE)]
        rows.append(f"| {name} | {' | '.join(f'{each[0]:.2f} → {each[-1]:.2f}' for each in values)} |")
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
    print()
    print(trace_table(found))


if __name__ == "__main__":
    main()
