"""The scaling of fields that a module was trained with, which its checkpoints hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


class FieldScaling(nn.Module):
    """``(t − mean) / std`` for each channel, the identity until it's fitted.

    It takes the numbers of a datamodule's normalizer when training starts, once, and then belongs to the network.
    """

    mean: Tensor
    std: Tensor
    is_fitted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("std", torch.ones(1))
        self.register_buffer("is_fitted", torch.tensor(False))

    def fit(self, normalizer: Any) -> None:
        """Take ``mean`` and ``std``, (C,) each, of a normalizer, unless this is fitted.

        Raises:
            ValueError: a number isn't finite, or a standard deviation isn't positive.
        """
        if bool(self.is_fitted):
            return
        mean, std = torch.as_tensor(normalizer.mean).reshape(-1), torch.as_tensor(normalizer.std).reshape(-1)
        if not bool((std > 0).all() and std.isfinite().all() and mean.isfinite().all()):
            raise ValueError(f"a normalizer has finite means and positive deviations, got {mean} and {std}")
        self.mean = mean.detach().clone().to(self.mean)
        self.std = std.detach().clone().to(self.std)
        self.is_fitted.fill_(True)

    def copy(self, other: FieldScaling) -> None:
        """Take over the scaling of another module, unless this is fitted."""
        if bool(other.is_fitted):
            self.fit(other)

    def normalize(self, fields: Tensor) -> Tensor:
        """Return ``(t − mean) / std`` of fields (B, C, …)."""
        return (fields - self._spread(self.mean, fields)) / self._spread(self.std, fields)

    def denormalize(self, fields: Tensor) -> Tensor:
        """Return the inverse, ``mean + std · t``, of fields (B, C, …)."""
        return torch.addcmul(self._spread(self.mean, fields), fields, self._spread(self.std, fields))

    def _spread(self, values: Tensor, fields: Tensor) -> Tensor:
        # In the fields' own precision, which a diagnostic may have changed.
        return values.to(fields.dtype).view(-1, *[1] * (fields.ndim - 2))

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *arguments: Any) -> None:
        # A checkpoint may have any number of channels.
        for name in ("mean", "std"):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.shape != getattr(self, name).shape:
                setattr(self, name, torch.empty_like(getattr(self, name)).resize_(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
