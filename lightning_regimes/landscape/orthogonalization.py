"""Random orthonormal vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def append_orthogonal(
    columns: Sequence[Tensor], count: int, *, size: int, dtype: torch.dtype, seed: int
) -> list[Tensor]:
    """Return orthonormal vectors on the CPU: the given ones, which are so already, and ``count`` random ones.

    They are uniform on the sphere in the complement of what came before, and the same on every device. Each vector is
    made orthogonal to the others in float64, twice, so that what is left of them in another is the rounding of
    ``dtype``.

    Args:
        columns: orthonormal, shape (size,) each.
        count: how many to add, at most size − len(columns).
        size: of each vector.
        dtype: of what is returned.
        seed: of the private generator.
    """
    found = [column.detach().to("cpu", dtype) for column in columns]
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        vector = torch.randn(size, dtype=torch.float64, generator=generator)
        for _ in range(2):
            for column in found:
                other = column.double()
                vector -= (other @ vector) / (other @ other) * other
            vector /= torch.linalg.vector_norm(vector)
        found.append(vector.to(dtype))
    return found
