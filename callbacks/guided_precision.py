"""The precision of a training that is under way."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import lightning as L
import torch
from torch import Tensor

from lightning_regimes.batches import map_tensors
from lightning_regimes.callbacks.probe_batches import ProbeBatches


def trains_in_single_precision(trainer: L.Trainer, module: L.LightningModule) -> bool:
    """Whether parameters and steps are in float32, on a device that has float64 as well."""
    return (
        str(trainer.precision) == "32-true"
        and module.device.type in ("cpu", "cuda")
        and all(parameter.dtype == torch.float32 for parameter in module.parameters())
    )


def set_precision(trainer: L.Trainer, module: L.LightningModule, *, double: bool) -> None:
    """Go on in float64, or in float32 again: parameters, buffers, batches, and those that diagnostics look at."""
    strategy: Any = trainer.strategy
    # Of the namespace that the trainer is from.
    package = type(strategy.precision_plugin).__module__.rpartition(".")[0]
    if double:
        strategy.precision_plugin = import_module(f"{package}.double").DoublePrecision()
        module.double()
    else:
        strategy.precision_plugin = import_module(f"{package}.precision").Precision()
        module.float()
    dtype = torch.float64 if double else torch.float32
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        batches = getattr(callback, "batches", None)
        if isinstance(batches, ProbeBatches):
            batches.kept = map_tensors(batches.kept, lambda tensor: _with_dtype(tensor, dtype))


def _with_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor
