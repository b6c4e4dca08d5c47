"""Computed samples on disk, in chunks that are whole or not there."""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.datamodules.token_file import write_atomically

Fields = dict[str, Tensor]


@dataclass(frozen=True)
class FieldCache:
    """Chunks of samples in a folder: ``<first>-<end>-<checksum>.npz`` holds arrays whose rows are these samples.

    The checksum in its name makes a chunk valid or not whatever else was written, so that there is no moment at which
    an interruption could leave two files that contradict each other.

    Attributes:
        folder: of the chunks; made when the first is written.
    """

    folder: Path

    def write(self, first: int, fields: Mapping[str, Tensor]) -> None:
        """Keep the samples from number ``first`` on, in place of shorter chunks that start there.

        A longer one, which another process may have written in the meantime, stays instead.

        Args:
            first: number of the first sample.
            fields: tensors with one row a sample.
        """
        buffer = io.BytesIO()
        np.savez(buffer, **{name: field.numpy() for name, field in fields.items()})  # type: ignore[arg-type]
        content = buffer.getvalue()
        end = first + len(next(iter(fields.values())))
        path = self.folder / f"{first:08d}-{end:08d}-{_checksum(content)}.npz"
        earlier = [file for file in self._files(first) if file != path]
        if any(_end(file) > end for file in earlier):
            return
        write_atomically(path, lambda file: file.write_bytes(content))
        for file in earlier:
            file.unlink(missing_ok=True)

    def read(self, first: int, end: int) -> Fields | None:
        """Return the samples from number ``first`` up to ``end``, or None if no valid chunk has them.

        A damaged chunk is removed, with a warning.
        """
        for path in self._files(first):
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                # Another process has just put a longer chunk in its place.
                return self.read(first, end)
            if _checksum(content) != path.stem.split("-")[2]:
                warnings.warn(f"{path} is damaged, and its samples are computed again", stacklevel=2)
                path.unlink(missing_ok=True)
            elif _end(path) >= end:
                with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                    return {name: torch.from_numpy(arrays[name][: end - first]) for name in arrays.files}
        return None

    def describe(self, recipe: str) -> None:
        """Write down beside the chunks what they are, for whoever finds them."""
        write_atomically(self.folder / "recipe.txt", lambda file: file.write_text(recipe + "\n", encoding="utf-8"))

    def _files(self, first: int) -> list[Path]:
        return sorted(self.folder.glob(f"{first:08d}-*.npz"))


def _end(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
