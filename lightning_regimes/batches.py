"""Batches of any structure: tensors, sequences, mappings, dataclasses, and objects such as PyG's ``Data``."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn


def map_tensors(batch: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return the batch with ``function`` applied to each tensor; the given batch is left as it is.

    Tensors are looked for in sequences, mappings, dataclasses, objects with an ``apply`` of their own (PyG's ``Data``),
    and the attributes of other objects that can be moved by ``to``. What holds none is passed on as it is.
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if isinstance(batch, str | bytes | nn.Module | type):
        return batch
    if isinstance(batch, tuple):
        items = [map_tensors(item, function) for item in batch]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
    if isinstance(batch, list):
        mapped = copy.copy(batch)
        mapped[:] = [map_tensors(item, function) for item in batch]
        return mapped
    if isinstance(batch, Mapping):
        mapping = copy.copy(batch) if isinstance(batch, MutableMapping) else dict(batch)
        for key, value in list(batch.items()):
            mapping[key] = map_tensors(value, function)
        return mapping
    if callable(getattr(type(batch), "apply", None)) and callable(getattr(type(batch), "to", None)):
        return copy.copy(batch).apply(function)
    if dataclasses.is_dataclass(batch):
        return _with_attributes(batch, [field.name for field in dataclasses.fields(batch)], function)
    if callable(getattr(type(batch), "to", None)) and hasattr(batch, "__dict__"):
        return _with_attributes(batch, list(vars(batch)), function)
    return batch


def _with_attributes(value: Any, names: list[str], function: Callable[[Tensor], Tensor]) -> Any:
    mapped = copy.copy(value)
    for name in names:
        object.__setattr__(mapped, name, map_tensors(getattr(value, name), function))
    return mapped


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
    return bool(pairs) and all(a is not None and b is not None and _equal(a, b) for a, b in pairs)


def _equal(first: Tensor, second: Tensor) -> bool:
    if (first.layout, first.dtype, first.device) != (second.layout, second.dtype, second.device):
        return False
    if first.layout != torch.strided or first.is_nested or second.is_nested:
        return first is second  # sparse and nested tensors have no comparison
    return torch.equal(first, second)


def num_samples(batch: Any) -> int:
    """Return how many samples a batch holds.

    That is ``num_graphs`` where the batch says so (PyG), otherwise the length of its first tensor, as Lightning
    counts it; 1 for a batch without tensors or whose first tensor is a scalar.
    """
    num_graphs = None if isinstance(batch, Mapping) else getattr(batch, "num_graphs", None)
    if isinstance(num_graphs, int):
        return num_graphs
    first = next(tensors_of(batch), None)
    return 1 if first is None or first.ndim == 0 else int(first.shape[0])
