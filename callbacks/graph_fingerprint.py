"""Whether two graphs are the same to a preprocessing of their edges."""

from __future__ import annotations

import hashlib
from typing import Any

from torch import Tensor

# Test labels have no part in the scores and none here.
_LOOKED_AT = ("x", "edge_index", "edge_weight", "train_mask", "val_mask")


def graph_fingerprint(data: Any, settings: Any) -> str:
    """Return a digest of a graph's edges, features, masks and known labels, and of how it is to be treated.

    Args:
        data: PyG's ``Data``.
        settings: the parameters of the treatment; what their ``repr`` says counts.

    Raises:
        ValueError: the graph has no labels or no training mask.
    """
    for name in ("y", "train_mask"):
        if data.get(name) is None:
            raise ValueError(f"`data.{name}` is needed, got None")
    digest = hashlib.sha256(repr(settings).encode())
    known = data.train_mask | data.val_mask if data.get("val_mask") is not None else data.train_mask
    for name, tensor in [*((name, data.get(name)) for name in _LOOKED_AT), ("known labels", data.y[known])]:
        digest.update(name.encode())
        if isinstance(tensor, Tensor):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
