"""The values of a surface while it is being evaluated, kept in a file so that the evaluation can be resumed."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_regimes.batches import tensors_of
from lightning_regimes.landscape.surface_grid import SurfaceGrid
from lightning_regimes.probe import LossProbe

# Seconds between two writings; a file takes milliseconds.
_INTERVAL = 5.0


class SurfaceProgress:
    """Which points have been evaluated, and what was found; written every few seconds, in one piece.

    Args:
        path: of the npz file, ``None`` to keep the values in memory alone.
        num_evaluations: number of points.
        fingerprint: says which surface the values belong to, see :func:`fingerprint`.

    Raises:
        ValueError: the file belongs to another surface, or is none of this kind.
    """

    def __init__(self, path: Path | None, num_evaluations: int, fingerprint: Mapping[str, str]) -> None:
        self._path = path
        self._fingerprint = dict(fingerprint)
        self._written = time.monotonic()
        self.values: NDArray[np.float64] = np.zeros(num_evaluations)
        #: Whether a point has been evaluated: NaN is a value like any other.
        self.done: NDArray[np.bool_] = np.zeros(num_evaluations, dtype=bool)
        #: How the values were computed, ``None`` before there are any.
        self.plan: dict[str, Any] | None = None
        if path is not None and path.exists():
            self._read(path)

    def begin(self, plan: dict[str, Any]) -> None:
        """Evaluate by this plan; what was found by another is dropped, since its last bits may differ."""
        if self.plan is not None and plan != self.plan:
            self.forget()
        self.plan = plan

    def forget(self) -> None:
        """Drop all values."""
        self.done[:] = False
        self.values[:] = 0
        self.plan = None

    def add(self, start: int, values: NDArray[np.float64]) -> None:
        """Note the values from the point ``start`` on."""
        self.values[start : start + len(values)] = values
        self.done[start : start + len(values)] = True
        if time.monotonic() - self._written >= _INTERVAL:
            self.write()

    def write(self) -> None:
        """Bring the file up to date, in place of the old one only once it is complete."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f".{self._path.name}.{os.getpid()}.partial")
        header = json.dumps({"fingerprint": self._fingerprint, "plan": self.plan})
        try:
            with partial.open("wb") as file:
                np.savez(file, values=self.values, done=self.done, progress=np.array(header))
            os.replace(partial, self._path)
        finally:
            partial.unlink(missing_ok=True)
        self._written = time.monotonic()

    def _read(self, path: Path) -> None:
        unknown = f"`resume` names {path}, which is no surface in progress; give another path"
        if not zipfile.is_zipfile(path):
            raise ValueError(unknown)
        with np.load(path, allow_pickle=False) as file:
            if "progress" not in file:
                raise ValueError(unknown)
            header = json.loads(str(file["progress"]))
            values, done = file["values"], file["done"]
        stored = header["fingerprint"]
        own = self._fingerprint
        differing = [name for name in {**stored, **own} if stored.get(name) != own.get(name)]
        if differing:
            raise ValueError(
                f"`resume` names {path}, which belongs to another surface: it differs in {', '.join(differing)}; "
                "delete the file or give another path"
            )
        self.values, self.done, self.plan = values, done, header["plan"]


def fingerprint(probe: LossProbe, vectors: Tensor, grid: SurfaceGrid, options: Mapping[str, Any]) -> dict[str, str]:
    """Return digests of what the values of a surface depend on.

    Not covered are the code of the loss and attributes of the module that are neither parameters nor buffers, such as a
    coefficient in the loss. Of a batch, tensors, arrays, numbers and strings are, in sequences, mappings, dataclasses
    and objects that can be moved by ``to``.
    """
    fixed = probe.fixed_tensors
    loss = {
        "source": probe.loss_source,
        "module": type(probe.module).__qualname__,
        "dtype": str(probe.dtype),
        "weights": list(probe.weights),
        "mode": probe.mode,
        "seed": probe.seed,
    }
    return {
        "the parameters": _digest(probe.point()),
        "the buffers or frozen parameters": _digest(*(fixed[path] for path in sorted(fixed))),
        "the batches": _digest_batches(probe),
        "the loss": json.dumps(loss, sort_keys=True),
        "the directions": _digest(vectors),
        "the axes": _digest(*(torch.from_numpy(axis) for axis in grid.axes), torch.tensor(grid.scale)),
        "the options": json.dumps(dict(options), sort_keys=True),
    }


def _digest_batches(probe: LossProbe) -> str:
    digest = hashlib.sha256()
    for index in range(probe.num_batches):
        batch = probe.batch(index)
        digest.update(_digest(*tensors_of(batch)).encode())
        for part in _plain_parts(batch):
            digest.update(part.encode())
    return digest.hexdigest()


def _plain_parts(value: Any) -> Iterator[str]:
    """Yield what a batch holds beside its tensors, looked for where these are, in the order of its structure."""
    kind = type(value).__qualname__
    if isinstance(value, Tensor):
        yield "tensor;"
    elif value is None or isinstance(value, str | bytes | int | float | complex | np.generic):
        yield f"{kind} {value!r};"
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()};"
    elif isinstance(value, set | frozenset):
        yield f"{kind} {sorted(map(repr, value))};"
    else:
        yield f"{kind}("
        for part in _parts(value):
            yield from _plain_parts(part)
        yield ")"


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return [part for item in value.items() for part in item]
    if isinstance(value, tuple | list | np.ndarray):
        return list(value)
    if isinstance(value, type | nn.Module):
        return []
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    if callable(getattr(type(value), "to", None)) and hasattr(value, "__dict__"):
        return [part for item in vars(value).items() for part in item]
    return []


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        plain = tensor.detach().cpu()
        digest.update(f"{plain.dtype} {tuple(plain.shape)}".encode())
        if plain.layout == torch.strided and not plain.is_nested:
            flat = plain.resolve_conj().resolve_neg().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
        else:
            file = io.BytesIO()
            torch.save(plain, file)
            digest.update(file.getvalue())
    return digest.hexdigest()
