"""What diagnostics cost a training, in CPU time of the whole process against the bare training, in one run.

Run with ``OMP_NUM_THREADS=1 python benchmarks/overhead.py``. A bare and a watched training run at the same time, as two
processes that take turns on one core: whatever slows the machine meets both, a few milliseconds apart. Two bare ones
are paired as well, and show how far from 1 such a ratio strays by itself. Both keep the memory that they have had from
the system: otherwise large tensors are mapped anew in each step until something larger has been freed, and a training
becomes faster by a fifth for having been looked at.

Beside the ratio stands the CPU time that passes inside the callback's hooks over that of the rest of the training, from
a run of its own. It says less, since what a hook leaves behind, in the caches for instance, is not in it, but a loaded
machine does not move it. ``--repeats 0`` measures nothing else.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path

import lightning as L
import torch
from models import cross_entropy
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_regimes.callbacks import GradientAlignment, HessianSpectrum, RegimeDetection
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


CASES: dict[str, tuple[Callable[[], nn.Module], Callable[..., torch.optim.Optimizer], int]] = {
    "mlp, AdamW": (mlp, adamw, 2000),
    "cnn, AdamW": (cnn, adamw, 2000),
    "cnn, L-BFGS": (cnn, lbfgs, 150),
}
CALLBACKS: dict[str, Callable[[], list[L.Callback]]] = {
    "bare": list,
    "HessianSpectrum": lambda: [HessianSpectrum(overhead_budget=0.05)],
    "RegimeDetection": lambda: [RegimeDetection(at_end=False)],
    "GradientAlignment": lambda: [GradientAlignment(overhead_budget=0.05)],
}


# Read by the C library at the start of a process: serve large blocks from the heap, and give nothing back.
_KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**62)}


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


def timed(callback: L.Callback, spent: list[float]) -> L.Callback:
    """Let each hook of a callback add the CPU seconds that it takes to a list."""

    def wrapped(hook: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            start = time.process_time()
            try:
                return hook(*arguments, **options)
            finally:
                spent.append(time.process_time() - start)

        return call

    for name in dir(L.Callback):
        if name.startswith("on_") or name in ("setup", "teardown"):
            setattr(callback, name, wrapped(getattr(callback, name)))
    return callback


def share_inside(case: str, kind: str) -> tuple[float, int]:
    """Return the CPU time inside a callback's hooks over that of the rest, and the measurements taken."""
    network, optimizer, steps = CASES[case]
    spent: list[float] = []
    train(network, optimizer, steps // 20, CALLBACKS[kind]())
    callbacks = [timed(callback, spent) for callback in CALLBACKS[kind]()]
    seconds, count = train(network, optimizer, steps, callbacks)
    return sum(spent) / (seconds - sum(spent)), count


def train_in_step(case: str, kind: str, core: int, start: Barrier, result: Connection) -> None:
    """Train on one core, from the moment at which the other process is ready too, and send what it cost."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    network, optimizer, steps = CASES[case]
    train(network, optimizer, steps // 20, CALLBACKS[kind]())
    start.wait()
    result.send(train(network, optimizer, steps, CALLBACKS[kind]()))


def paired(case: str, kind: str, core: int) -> tuple[float, int]:
    """Return the CPU time of a watched training over that of the bare one beside it, and the measurements taken."""
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    processes, results = [], []
    for member in ("bare", kind):
        receiver, sender = context.Pipe(duplex=False)
        processes.append(context.Process(target=train_in_step, args=(case, member, core, start, sender)))
        results.append(receiver)
        processes[-1].start()
        sender.close()
    (bare, _), (watched, count) = (result.recv() for result in results)
    for process in processes:
        process.join()
    return watched / bare, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="pairs for each callback and training")
    parser.add_argument("--core", type=int, default=0, help="the core that both trainings of a pair share")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="the trainings")
    parser.add_argument("--callbacks", nargs="+", choices=CALLBACKS, default=list(CALLBACKS))
    arguments = parser.parse_args()
    os.environ.update(_KEEP_MEMORY)
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    columns = ("training", "callback", "CPU time / bare", "pairs", "inside hooks / rest", "measurements")
    table = Table(*columns, title="budget 0.05, RegimeDetection 0.01")
    for case in arguments.cases:
        runs: dict[str, list[tuple[float, int]]] = {kind: [] for kind in arguments.callbacks}
        for _ in range(arguments.repeats):
            for kind in arguments.callbacks:
                runs[kind].append(paired(case, kind, arguments.core))
        for kind, pairs in runs.items():
            ratios = sorted(ratio for ratio, _ in pairs)
            median = f"{statistics.median(ratios):.3f}" if ratios else "–"
            spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}" if ratios else "–"
            share, count = share_inside(case, kind)
            counts = " ".join(str(count) for count in [*(count for _, count in pairs), count])
            table.add_row(case, kind, median, spread, f"{share:.4f}", counts)
    Console().print(table)


if __name__ == "__main__":
    main()
