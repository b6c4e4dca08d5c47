"""Curves between two points in parameter space: the line, Bezier curves and polygonal chains."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

Path = Literal["linear", "bezier", "polygonal"]


@dataclass(frozen=True, eq=False)
class Curve:
    r"""A curve :math:`\theta(t) = \sum_j c_j(t)\, p_j`, :math:`t \in [0, 1]`, from its first point to its last one.

    With m + 1 points, the coefficients of a Bezier curve are Bernstein's polynomials
    :math:`c_j(t) = \binom{m}{j} t^j (1 - t)^{m - j}`; those of a polygonal chain are hat functions on m equal pieces
    of [0, 1]; the line has two points.

    Attributes:
        path: which of the three.
        points: shape (m + 1, n); ends and, between them, the bends.
    """

    path: Path
    points: Tensor

    def coefficients(self, t: float) -> list[float]:
        """Return the m + 1 coefficients of the points, non-negative, with sum one."""
        degree = len(self.points) - 1
        if self.path == "bezier":
            return [math.comb(degree, j) * t**j * (1 - t) ** (degree - j) for j in range(degree + 1)]
        return [max(0.0, 1 - abs(t * degree - j)) for j in range(degree + 1)]

    def point(self, t: float) -> Tensor:
        """Return the point at t, shape (n,); at 0 and 1 exactly the ends."""
        coefficients = torch.tensor(self.coefficients(t), dtype=self.points.dtype, device=self.points.device)
        return coefficients @ self.points

    @property
    def bends(self) -> Tensor:
        """The points between the ends, shape (m - 1, n)."""
        return self.points[1:-1]


def straight_curve(start: Tensor, end: Tensor, path: Path, *, num_bends: int = 1) -> Curve:
    """Return a curve whose bends lie evenly on the line between its ends.

    Args:
        start: shape (n,).
        end: the same shape.
        path: ``"linear"``, which has no bends, ``"bezier"`` or ``"polygonal"``.
        num_bends: at least 1.

    Raises:
        ValueError: an argument is out of its range.
    """
    if path not in get_args(Path):
        raise ValueError(f"`path` is one of {', '.join(get_args(Path))}, got {path!r}")
    if num_bends < 1:
        raise ValueError(f"`num_bends` is at least 1, got {num_bends}")
    num_pieces = 1 if path == "linear" else num_bends + 1
    inner = [torch.lerp(start, end, piece / num_pieces) for piece in range(1, num_pieces)]
    return Curve(path, torch.stack([start, *inner, end]))
