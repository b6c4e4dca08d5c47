"""What a training step of NeuralOperator costs beside a plain loop over the same model of neuraloperator.

    python benchmarks/operator_step.py

Both train the same FNO by the same optimizer on the same batches. Trainings alternate, and the ratio is the median over
the pairs of their CPU times, so that other work on the machine hits both.
"""

from __future__ import annotations

import logging
import statistics
import time
import warnings

import lightning as L
import torch
from neuralop.losses import LpLoss
from neuralop.models import FNO
from torch.utils.data import DataLoader, Dataset

from lightning_regimes.modules import NeuralOperator
from lightning_regimes.optim import AdamFactory

NUM_STEPS, BATCH_SIZE, PAIRS = 60, 32, 7


class Fields(Dataset[dict[str, torch.Tensor]]):
    """Random fields, batch by batch."""

    def __init__(self, resolution: int) -> None:
        self.fields = torch.randn(2, NUM_STEPS, BATCH_SIZE, 1, resolution, resolution)

    def __len__(self) -> int:
        """Return the number of batches."""
        return NUM_STEPS

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return a batch."""
        return {"x": self.fields[0, index], "y": self.fields[1, index]}


def model() -> FNO:
    """Return the FNO that both train."""
    torch.manual_seed(0)
    return FNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=24)


def plain_loop(fields: Fields) -> float:
    """Return the CPU seconds of a loop in plain torch."""
    network, loss = model(), LpLoss(d=2, reduction="mean")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    loader = DataLoader(fields, batch_size=None)
    start = time.process_time()
    for batch in loader:
        optimizer.zero_grad()
        loss(network(batch["x"]), batch["y"]).backward()
        optimizer.step()
    return time.process_time() - start


def trainer_loop(fields: Fields) -> float:
    """Return the CPU seconds of the same training by a Trainer, its start and end left out."""
    marks: list[float] = []

    class Clock(L.Callback):
        def on_train_epoch_start(self, *_: object) -> None:
            marks.append(time.process_time())

        def on_train_epoch_end(self, *_: object) -> None:
            marks.append(time.process_time())

    module = NeuralOperator(model(), optimizer=AdamFactory(lr=1e-3, weight_decay=1e-4), warmup=None)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock()],
    )
    trainer.fit(module, DataLoader(fields, batch_size=None))
    return marks[1] - marks[0]


def main() -> None:
    """Print a row for each resolution."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print("| resolution | plain loop, ms a step | NeuralOperator, ms a step | ratio |")
    print("| --- | --- | --- | --- |")
    for resolution in (16, 32):
        fields = Fields(resolution)
        plain_loop(fields)
        trainer_loop(fields)
        pairs = [(plain_loop(fields), trainer_loop(fields)) for _ in range(PAIRS)]
        ratio = statistics.median(ours / plain for plain, ours in pairs)
        plain, ours = (1e3 * statistics.median(column) / NUM_STEPS for column in zip(*pairs, strict=True))
        print(f"| {resolution}² | {plain:.1f} | {ours:.1f} | {ratio:.3f} |", flush=True)


if __name__ == "__main__":
    main()
