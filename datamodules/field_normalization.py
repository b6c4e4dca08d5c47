"""Fields brought to mean zero and variance one, channel by channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FieldNormalizer(nn.Module):
    """``(t − mean) / std`` for each channel, the same at every place, so that it holds on every grid.

    Args:
        mean: ``(C,)``.
        std: ``(C,)``; a channel that is constant has 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        if mean.ndim != 1 or mean.shape != std.shape:
            raise ValueError(f"`mean` and `std` must be (C,), got {tuple(mean.shape)} and {tuple(std.shape)}.")
        if not bool((std > 0).all()):
            raise ValueError("`std` must be positive in every channel.")
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    @classmethod
    def fit(cls, fields: Tensor, *, shared: bool = False) -> FieldNormalizer:
        """Return the normalizer of samples ``(N, C, …)``.

        Args:
            fields: the samples to train on.
            shared: one mean and one standard deviation for all channels, as for a history of one quantity.
        """
        along = [dimension for dimension in range(fields.ndim) if shared or dimension != 1]
        wide = fields.double()
        mean, std = wide.mean(dim=along), wide.std(dim=along, correction=0)
        std = torch.where(std > 1e-12 * (1 + mean.abs()), std, 1.0)
        return cls(mean.float().expand(fields.shape[1]).clone(), std.float().expand(fields.shape[1]).clone())

    def normalize(self, fields: Tensor) -> Tensor:
        """Return ``(t − mean) / std`` of ``(B, C, …)``."""
        return (fields - self._spread(self.mean, fields)) / self._spread(self.std, fields)

    def denormalize(self, fields: Tensor) -> Tensor:
        """Return the inverse, ``t · std + mean``, of ``(B, C, …)``."""
        return fields * self._spread(self.std, fields) + self._spread(self.mean, fields)

    def forward(self, fields: Tensor) -> Tensor:
        """Return the normalized fields."""
        return self.normalize(fields)

    def _spread(self, values: Tensor, fields: Tensor) -> Tensor:
        return values.view(-1, *[1] * (fields.ndim - 2))
