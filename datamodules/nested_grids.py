"""Coarse grids whose nodes are nodes of a fine one."""

from __future__ import annotations

from torch import Tensor


def stride_between(fine: int, coarse: int, *, ends: bool) -> int:
    """Return every how many nodes of a fine grid those of a coarse one lie.

    Args:
        fine: nodes on a side.
        coarse: nodes on a side.
        ends: both ends of a side are nodes; otherwise the grids are periodic.

    Raises:
        ValueError: the coarse nodes aren't nodes of the fine grid.
    """
    intervals = (fine - 1, coarse - 1) if ends else (fine, coarse)
    if intervals[0] % intervals[1]:
        raise ValueError(f"the nodes of resolution {coarse} are no nodes of `solver_resolution`, which is {fine}.")
    return intervals[0] // intervals[1]


def subsampled(fields: Tensor, resolution: int, *, ends: bool, dimension: int = 2) -> Tensor:
    """Return fields ``(…, n, n)`` at every so many nodes, ``(…, resolution, resolution)``.

    Args:
        fields: on the fine grid.
        resolution: nodes on a side of the coarse grid.
        ends: both ends of a side are nodes; otherwise the grids are periodic.
        dimension: of the grids, 1 or 2.
    """
    stride = stride_between(fields.shape[-1], resolution, ends=ends)
    return fields[..., ::stride] if dimension == 1 else fields[..., ::stride, ::stride]
