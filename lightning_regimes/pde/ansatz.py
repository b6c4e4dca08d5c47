"""Fields that satisfy conditions exactly, whatever the network inside them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_regimes.pde.derivatives import Field
from lightning_regimes.pde.points import Domain


def unit_coordinate(points: Tensor, domain: Domain, axis: int) -> Tensor:
    """Return coordinate ``axis`` scaled from its ends to ``[0, 1]``, ``(N, 1)``."""
    low, high = domain[axis]
    return (points[:, axis : axis + 1] - low) / (high - low)


def vanishing_factor(points: Tensor, domain: Domain, axes: Sequence[int]) -> Tensor:
    """Return a bump, 0 on the faces of the given coordinates and 1 in the middle: ``∏ 4 ξ (1 − ξ)``, ``(N, 1)``."""
    factor = torch.ones_like(points[:, :1])
    for axis in axes:
        unit = unit_coordinate(points, domain, axis)
        factor = factor * (4 * unit * (1 - unit))
    return factor


def periodic_field(field: Field, domain: Domain, axis: int) -> Field:
    """Return a field with equal values at both ends of a coordinate: ``u(p) − ξ (u(p_high) − u(p_low))``."""

    def periodic(points: Tensor) -> Tensor:
        low, high = domain[axis]
        onto_axis = torch.ones_like(points[:1])
        onto_axis[0, axis] = 0
        start = torch.zeros_like(points[:1])
        start[0, axis] = low
        end = torch.zeros_like(points[:1])
        end[0, axis] = high
        inside, at_low, at_high = field(
            torch.cat([points, points * onto_axis + start, points * onto_axis + end])
        ).chunk(3)
        return inside - unit_coordinate(points, domain, axis) * (at_high - at_low)

    return periodic


def blended_boundary(boundary: Field, points: Tensor, domain: Domain) -> Tensor:
    """Return the Coons patch: a smooth function that equals ``boundary`` on all four sides of a rectangle.

    ``P₁ g + P₂ g − P₁ P₂ g`` with ``P_k`` the linear interpolation between the two ends of coordinate ``k``.

    Args:
        boundary: a function that is known on the sides; it's evaluated nowhere else.
        points: ``(N, 2)``.
        domain: the rectangle.

    References:
        W. J. Gordon, C. A. Hall, "Transfinite element methods", Numerische Mathematik 21, 1973.
    """

    def interpolated(function: Field, axis: int) -> Field:
        def along_axis(at: Tensor) -> Tensor:
            unit = unit_coordinate(at, domain, axis)
            low, high = (
                torch.cat([at[:, :axis], torch.full_like(at[:, :1], end), at[:, axis + 1 :]], dim=1)
                for end in domain[axis]
            )
            return (1 - unit) * function(low) + unit * function(high)

        return along_axis

    first, second = interpolated(boundary, 0), interpolated(boundary, 1)
    both = interpolated(second, 0)
    return first(points) + second(points) - both(points)
