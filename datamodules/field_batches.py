"""Batches of fields, taken out of whole tensors in one indexing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Batch = dict[str, Tensor]


class FieldPairs(Dataset[Batch]):
    """Samples that are rows of tensors: ``{"x": (N, C, …), "y": (N, C, …)}``.

    Args:
        fields: tensors with one row a sample.
    """

    def __init__(self, fields: Mapping[str, Tensor]) -> None:
        self.fields = dict(fields)

    def __len__(self) -> int:
        return len(self.fields["x"])

    def __getitem__(self, index: int) -> Batch:
        return {name: field[index] for name, field in self.fields.items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a batch."""
        rows = torch.as_tensor(indices)
        return {name: field[rows] for name, field in self.fields.items()}


class FramePairs(Dataset[Batch]):
    """All windows of trajectories: a history ``(h, H, W)`` as "x", and the frame that follows, ``(1, H, W)``, as "y".

    Args:
        trajectories: ``(N, T, H, W)``.
        history: ``h``, below ``T``.
    """

    def __init__(self, trajectories: Tensor, *, history: int) -> None:
        self.trajectories = trajectories
        self.history = history
        self._windows = trajectories.shape[1] - history

    def __len__(self) -> int:
        return len(self.trajectories) * self._windows

    def __getitem__(self, index: int) -> Batch:
        return {name: field[0] for name, field in self.__getitems__([index]).items()}

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return a batch."""
        numbers = torch.as_tensor(indices)
        times = (numbers % self._windows).unsqueeze(1) + torch.arange(self.history + 1)
        frames = self.trajectories[(numbers // self._windows).unsqueeze(1), times]
        return {"x": frames[:, : self.history], "y": frames[:, self.history :]}


def field_loader(dataset: Dataset[Batch], *, batch_size: int, shuffle: bool = False) -> DataLoader[Batch]:
    """Return a loader of whole batches."""
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, collate_fn=_as_it_is)


def _as_it_is(batch: Any) -> Any:
    return batch
