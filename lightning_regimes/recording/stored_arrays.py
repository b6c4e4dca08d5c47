"""Arrays that stay on disk until someone looks at them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class StoredArrays(Mapping[str, np.ndarray]):
    """The arrays of one record as a mapping that reads an entry of the npz file at each access.

    A long run holds thousands of field maps; reading its records must not bring them all into memory.

    Attributes:
        path: The npz file.
        keys_stored: The keys it holds.
    """

    path: Path
    keys_stored: tuple[str, ...]

    def __getitem__(self, key: str) -> np.ndarray:
        if key not in self.keys_stored:
            raise KeyError(key)
        with np.load(self.path, allow_pickle=False) as file:
            return file[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_stored)

    def __len__(self) -> int:
        return len(self.keys_stored)
