"""Batches of Gaussian noise."""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
import torch
from torch import Tensor

from lightning_regimes.datamodules.collocation import Steps


class GaussianNoise(L.LightningDataModule):
    """Batches of shape (1, size) of independent normal numbers, other ones in every epoch.

    Args:
        size: numbers in a batch.
        standard_deviation: of each.
        steps_per_epoch: batches in an epoch.
        seed: of the private generator, together with the number of the epoch.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, *, size: int = 500, standard_deviation: float = 0.5, steps_per_epoch: int = 100, seed: int = 0
    ) -> None:
        super().__init__()
        for name, value in (("size", size), ("steps_per_epoch", steps_per_epoch)):
            if value < 1:
                raise ValueError(f"`{name}` is at least 1, got {value}")
        if not standard_deviation > 0:
            raise ValueError(f"`standard_deviation` is positive, got {standard_deviation}")
        self.save_hyperparameters()
        self.size = size
        self.standard_deviation = standard_deviation
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed

    def train_dataloader(self) -> Steps:
        """Return the batches of the present epoch."""
        return Steps(self.steps_per_epoch, self._batches)

    def _batches(self) -> Iterator[Tensor]:
        epoch = 0 if self.trainer is None else self.trainer.current_epoch
        generator = torch.Generator().manual_seed(self.seed + 1_000_003 * epoch)
        for _ in range(self.steps_per_epoch):
            yield self.standard_deviation * torch.randn(1, self.size, generator=generator)
