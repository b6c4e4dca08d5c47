"""Handwritten digits that come with scikit-learn: real data without a download."""

from __future__ import annotations

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, TensorDataset


class HandwrittenDigits(L.LightningDataModule):
    """The 1797 handwritten digits of 8 x 8 pixels, as vectors of length 64 between 0 and 1, in ten classes.

    The split is stratified and depends on ``seed`` only; no global generator is touched when it is made.

    Args:
        batch_size: samples in a training batch.
        num_train: samples to train on, between 10 and 1437; the rest of the training part is left out.
        seed: of the split.

    Raises:
        ValueError: an argument is out of its range.

    References:
        E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """

    num_classes = 10
    num_features = 64

    def __init__(self, *, batch_size: int = 64, num_train: int = 1437, seed: int = 0) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"`batch_size` is at least 1, got {batch_size}")
        if not 10 <= num_train <= 1437:
            raise ValueError(f"`num_train` lies between 10 and 1437, got {num_train}")
        self.save_hyperparameters()
        self.batch_size = batch_size
        self.num_train = num_train
        self.seed = seed
        self._parts: dict[str, TensorDataset] = {}

    def setup(self, stage: str) -> None:
        """Load and split the data."""
        if self._parts:
            return
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        images, labels = load_digits(return_X_y=True)
        x_train, x_rest, y_train, y_rest = train_test_split(
            images / 16.0, labels, train_size=1437, stratify=labels, random_state=self.seed
        )
        x_val, x_test, y_val, y_test = train_test_split(
            x_rest, y_rest, train_size=0.5, stratify=y_rest, random_state=self.seed
        )
        self._parts = {
            "train": _dataset(x_train[: self.num_train], y_train[: self.num_train]),
            "val": _dataset(x_val, y_val),
            "test": _dataset(x_test, y_test),
        }

    def train_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Return shuffled batches."""
        return DataLoader(self._parts["train"], batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Return the 180 validation samples in one batch."""
        return DataLoader(self._parts["val"], batch_size=len(self._parts["val"]))

    def test_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Return the 180 test samples in one batch."""
        return DataLoader(self._parts["test"], batch_size=len(self._parts["test"]))

    def predict_dataloader(self) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Return the test samples."""
        return self.test_dataloader()


def _dataset(images: np.ndarray, labels: np.ndarray) -> TensorDataset:
    return TensorDataset(torch.as_tensor(images, dtype=torch.float32), torch.as_tensor(labels, dtype=torch.int64))
