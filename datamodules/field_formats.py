"""Pairs of fields in the files of others."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.datamodules.field_cache import Fields

#: Suffixes that :func:`read_fields` knows.
FORMATS = (".pt", ".pth", ".npz", ".h5", ".hdf5")


def read_fields(path: str | os.PathLike[str], *, frames: tuple[int, int] = (0, -1)) -> Fields:
    """Return the pairs of a file, ``{"x": (N, C, …), "y": (N, C, …)}`` in float32.

    - ``.pt`` and ``.npz`` with "x" and "y", as neuraloperator keeps Darcy flow: ``(N, H, W)`` or ``(N, C, H, W)``.
    - PDEBench's steady HDF5 files: "nu" ``(N, H, W)`` is "x", "tensor" ``(N, C, H, W)`` is "y".
    - PDEBench's HDF5 files of trajectories: "tensor" ``(N, T, n)``, or a group a sample with "data" ``(T, …, C)``, from
      which two frames are taken.

    Args:
        path: the file.
        frames: numbers of the frames that are "x" and "y".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has another format or other names, or a frame that it hasn't is asked for.
        ModuleNotFoundError: HDF5 files need the package ``h5py``.
    """
    file = Path(path)
    if file.suffix not in FORMATS:
        raise ValueError(f"a file of fields is one of {', '.join(FORMATS)}, got {os.fspath(path)!r}")
    if not file.is_file():
        raise FileNotFoundError(f"the file of fields {os.fspath(path)!r} does not exist")
    if file.suffix in (".pt", ".pth"):
        return _named_pairs(torch.load(file, map_location="cpu", weights_only=True), file)
    if file.suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            return _named_pairs({name: torch.from_numpy(arrays[name]) for name in arrays.files}, file)
    return _pdebench(file, frames)


def _named_pairs(content: Any, file: Path) -> Fields:
    if not isinstance(content, Mapping) or not {"x", "y"} <= content.keys():
        found = sorted(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f'{file} must hold "x" and "y", and it holds {found}')
    for name in ("x", "y"):
        if not isinstance(content[name], Tensor):
            raise ValueError(f'"{name}" of {file} must be a tensor, got {type(content[name]).__name__}')
    return _checked({"x": _with_channel(content["x"]), "y": _with_channel(content["y"])}, file)


def _pdebench(file: Path, frames: tuple[int, int]) -> Fields:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("HDF5 files need the package h5py: pip install h5py") from error
    with h5py.File(file) as content:
        names = list(content)
        if {"nu", "tensor"} <= set(names):
            x, y = torch.from_numpy(content["nu"][:]), torch.from_numpy(content["tensor"][:])
            return _checked({"x": _with_channel(x), "y": _with_channel(y)}, file)
        if "tensor" in names and content["tensor"].ndim == 3:
            trajectories = content["tensor"]
            first, second = (_frame(number, trajectories.shape[1], file) for number in frames)
            pair = {"x": trajectories[:, first], "y": trajectories[:, second]}
            return _checked({name: torch.from_numpy(field).unsqueeze(1) for name, field in pair.items()}, file)
        samples = sorted(name for name in names if isinstance(content[name], h5py.Group) and "data" in content[name])
        if samples:
            pairs = []
            for name in samples:
                trajectory = content[name]["data"]
                first, second = (_frame(number, len(trajectory), file) for number in frames)
                pairs.append((torch.from_numpy(trajectory[first]), torch.from_numpy(trajectory[second])))
            x, y = (torch.stack(part).movedim(-1, 1) for part in zip(*pairs, strict=True))
            return _checked({"x": x, "y": y}, file)
    raise ValueError(
        f'{file} must hold "nu" and "tensor", "tensor" (N, T, n), or groups with "data", got {sorted(names)[:8]}'
    )


def _frame(number: int, num_frames: int, file: Path) -> int:
    if not -num_frames <= number < num_frames:
        raise ValueError(f"`frames` must lie in the {num_frames} of {file}, got {number}")
    return number % num_frames


def _with_channel(field: Tensor) -> Tensor:
    return field.unsqueeze(1) if field.ndim in (2, 3) else field


def _checked(fields: Fields, file: Path) -> Fields:
    x, y = fields["x"], fields["y"]
    if len(x) != len(y) or x.shape[2:] != y.shape[2:] or x.ndim not in (3, 4):
        raise ValueError(f'"x" and "y" of {file} must be (N, C, …) on one grid, got {tuple(x.shape)}, {tuple(y.shape)}')
    single = {name: field.float().contiguous() for name, field in fields.items()}
    for name, field in single.items():
        if not bool(field.isfinite().all()):
            raise ValueError(f'"{name}" of {file} has values that are not finite')
    return single
