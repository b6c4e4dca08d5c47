"""Samples of fields that training never sees, and what is shown of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def heldout_fields(datamodule: Any, *, max_samples: int = 64) -> dict[str, Tensor] | None:
    """Return validation samples of a datamodule, evenly spaced, without a loader and so without random numbers.

    Args:
        datamodule: with a method ``fields(part)`` that returns ``{"x": (N, C, …), "y": (N, C′, …)}``.
        max_samples: how many at most.

    Returns:
        "x" and "y", or None if there is no such method or no sample.
    """
    fields = getattr(datamodule, "fields", None)
    samples = fields("val") if callable(fields) else None
    if not isinstance(samples, Mapping) or not {"x", "y"} <= samples.keys() or not len(samples["x"]):
        return None
    count = len(samples["x"])
    rows = torch.linspace(0, count - 1, min(count, max_samples)).round().long()
    return {name: samples[name][rows] for name in ("x", "y")}


def field_picture(inputs: Tensor, prediction: Tensor, reference: Tensor) -> dict[str, Any]:
    """Return what pictures of the first of some two-dimensional samples are drawn from.

    Args:
        inputs: (B, C, n, m).
        prediction: (B, C′, n, m).
        reference: (B, C′, n, m).

    Returns:
        ``axis_0`` (n,) and ``axis_1`` (m,) in units of the domain, ``input``, ``prediction`` and ``reference``
        (n, m), of several channels the last, and the ``axis_names``.
    """
    rows, columns = inputs.shape[2:]
    return {
        "axis_0": torch.linspace(0, 1, rows),
        "axis_1": torch.linspace(0, 1, columns),
        "input": inputs[0, -1],
        "prediction": prediction[0, -1],
        "reference": reference[0, -1],
        "axis_names": ("x₁", "x₂"),
    }
