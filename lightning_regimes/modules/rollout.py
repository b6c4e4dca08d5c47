"""Predictions that are fed back: many steps of time by an operator that takes one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def rollout(operator: Callable[[Tensor], Tensor], window: Tensor, num_steps: int) -> Tensor:
    """Return the fields that follow a window of fields, each predicted from predictions.

    Args:
        operator: from ``(B, H · C, n₁, …)``, the H latest fields with the oldest first, to the next, ``(B, C, n₁, …)``.
        window: the fields to begin with.
        num_steps: how many to predict.

    Returns:
        ``(B, num_steps, C, n₁, …)``; from the first on that isn't finite, none is.

    Raises:
        ValueError: ``num_steps`` is below 1, or the window doesn't hold a whole number of predictions.
    """
    if num_steps < 1:
        raise ValueError(f"`num_steps` is at least 1, got {num_steps}")
    predictions: list[Tensor] = []
    for _ in range(num_steps):
        following = operator(window)
        channels = following.shape[1]
        if window.shape[1] % channels:
            raise ValueError(
                f"a rollout needs a window of whole fields, got {window.shape[1]} input and {channels} output channels"
            )
        predictions.append(following)
        window = torch.cat([window[:, channels:], following], dim=1)
    return torch.stack(predictions, dim=1)
