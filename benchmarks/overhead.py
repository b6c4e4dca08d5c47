"""What diagnostics cost a training, in CPU time of the whole process against the bare training, in one run.

Run with ``OMP_NUM_THREADS=1 python benchmarks/overhead.py``. Bare and watched trainings alternate, so that a slow
moment of the machine meets both.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning as L
import torch
from models import cross_entropy
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.callbacks import HessianSpectrum, RegimeDetection
from lightning_regimes.recording import read_records


class Training(L.LightningModule):
    """Any network under any optimizer, with cross-entropy."""

    def __init__(self, network: nn.Module, optimizer: Callable[..., torch.optim.Optimizer]) -> None:
        super().__init__()
        self.network = network
        self.make_optimizer = optimizer

    def training_step(self, batch: Sequence[Tensor], batch_idx: int) -> Tensor:
        """Return the loss."""
        return cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return self.make_optimizer(self.parameters())


def mlp() -> nn.Module:
    """Return a 784-512-512-10 network."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )


def cnn() -> nn.Module:
    """Return a small convolutional network with batch norm."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 49, 10),
    )


def adamw(parameters: object) -> torch.optim.Optimizer:
    """Return AdamW."""
    return torch.optim.AdamW(parameters, lr=1e-3)  # type: ignore[arg-type]


def lbfgs(parameters: object) -> torch.optim.Optimizer:
    """Return L-BFGS with up to 25 evaluations of the loss in a step."""
    return torch.optim.LBFGS(parameters, max_iter=20, line_search_fn="strong_wolfe")  # type: ignore[arg-type]


CASES = {"mlp, AdamW": (mlp, adamw, 2000), "cnn, AdamW": (cnn, adamw, 2000), "cnn, L-BFGS": (cnn, lbfgs, 150)}
CALLBACKS: dict[str, Callable[[], list[L.Callback]]] = {
    "bare": list,
    "HessianSpectrum": lambda: [HessianSpectrum(overhead_budget=0.05)],
    "RegimeDetection": lambda: [RegimeDetection(overhead_budget=0.05, at_end=False)],
}


def train(
    make_network: Callable[[], nn.Module],
    optimizer: Callable[..., torch.optim.Optimizer],
    steps: int,
    callbacks: list[L.Callback],
) -> tuple[float, int]:
    """Return the CPU seconds of a training and the number of measurements taken in it."""
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(64 * 100, 1, 28, 28), torch.randint(0, 10, (64 * 100,)))
    with tempfile.TemporaryDirectory() as folder:
        trainer = L.Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            max_steps=steps,
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        start = time.process_time()
        trainer.fit(Training(make_network(), optimizer), DataLoader(data, batch_size=64, shuffle=True))
        seconds = time.process_time() - start
        records = [read_records(path.parent.parent) for path in Path(folder).rglob("records.jsonl")]
        return seconds, sum(map(len, records))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="alternations of bare and watched trainings")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    table = Table("training", "callback", "CPU time / bare", "measurements", title="budget 0.05")
    for name, (network, optimizer, steps) in CASES.items():
        train(network, optimizer, steps // 10, [])
        runs: dict[str, list[tuple[float, int]]] = {kind: [] for kind in CALLBACKS}
        for _ in range(arguments.repeats):
            for kind, make in CALLBACKS.items():
                runs[kind].append(train(network, optimizer, steps, make()))
        bare = statistics.median(seconds for seconds, _ in runs["bare"])
        for kind in list(CALLBACKS)[1:]:
            ratio = statistics.median(seconds for seconds, _ in runs[kind]) / bare
            table.add_row(name, kind, f"{ratio:.3f}", str([count for _, count in runs[kind]]))
    Console().print(table)


if __name__ == "__main__":
    main()
