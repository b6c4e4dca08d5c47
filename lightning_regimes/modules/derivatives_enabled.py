"""Derivatives where the Trainer evaluates without them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def derivatives_enabled() -> Iterator[None]:
    """Allow derivatives with respect to points, also in ``validate`` and ``test``.

    ``torch.enable_grad`` alone isn't enough there: inference mode has to be left, too, and tensors that were made in it
    have to be copied (:func:`outside_inference`).
    """
    with torch.inference_mode(False), torch.enable_grad():
        yield


def outside_inference(batch: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Return the batch with copies of those tensors that were made in inference mode."""
    return {name: points.clone() if points.is_inference() else points for name, points in batch.items()}
