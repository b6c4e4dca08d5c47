"""Batches of any structure: tensors, sequences, mappings, dataclasses, and objects such as PyG's ``Data``."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Protocol, runtime_checkable

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor


@runtime_checkable
class TensorStore(Protocol):
    """An object that applies a function to all its tensors in place and returns itself, as PyG's ``Data`` does."""

    def apply(self, function: Callable[[Tensor], Tensor]) -> TensorStore: ...

    def to(self, device: torch.device) -> TensorStore: ...


def map_tensors(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return the batch with ``function`` applied to each tensor; the given batch is left as it is."""

    def apply(value: Tensor | TensorStore) -> Any:
        return function(value) if isinstance(value, Tensor) else copy.copy(value).apply(function)

    return apply_to_collection(batch, (Tensor, TensorStore), apply)


def tensors_of(batch: Any) -> Iterator[Tensor]:
    """Yield the tensors of a batch in the order of its structure."""
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(batch, collect)
    yield from found


def captured(batch: Any) -> Any:
    """Return a copy that shares no memory with the batch and may enter a graph, even out of inference mode."""
    with torch.inference_mode(False), torch.no_grad():
        return map_tensors(batch, lambda tensor: tensor.detach().clone())


def same_tensors(first: Any, second: Any) -> bool:
    """Return whether two batches hold the same tensors in the same order; false where there are none."""
    pairs = list(itertools.zip_longest(tensors_of(first), tensors_of(second)))
    return bool(pairs) and all(a is not None and b is not None and torch.equal(a, b) for a, b in pairs)


def num_samples(batch: Any) -> int:
    """Return how many samples a batch holds.

    That is ``num_graphs`` where the batch says so (PyG), otherwise the length of its first tensor, as Lightning
    counts it; 1 for a batch without tensors or whose first tensor is a scalar.
    """
    num_graphs = getattr(batch, "num_graphs", None)
    if isinstance(num_graphs, int):
        return num_graphs
    first = next(tensors_of(batch), None)
    return 1 if first is None or first.ndim == 0 else int(first.shape[0])
