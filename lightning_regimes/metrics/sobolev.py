"""Errors of fields that count their slopes, too: the relative error in the norm of H¹."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_regimes.metrics.vrmse import check_fields


def relative_h1_errors(
    predicted: Tensor,
    reference: Tensor,
    *,
    spatial_dims: int = 2,
    periodic: bool = True,
    lengths: Sequence[float] | None = None,
) -> Tensor:
    r"""Return the relative error of each sample in the norm of :math:`H^1`, (B,), in the dtype of the reference.

    .. math:: \frac{\|\hat u - u\|_{H^1}}{\|u\|_{H^1}}, \qquad
        \|u\|_{H^1}^2 = \langle u^2 \rangle + \sum_i \langle (\partial_i u)^2 \rangle

    Slopes are central differences. On a domain that isn't periodic, those at its ends are one-sided, of second order.

    Args:
        predicted: :math:`\hat u`, (B, C, n₁, …, n_d).
        reference: u, the same shape.
        spatial_dims: number d of trailing dimensions that are space.
        periodic: in all directions; points are then 1 / n apart, otherwise 1 / (n − 1), both ends included.
        lengths: of the sides of the domain, 1 by default.

    Raises:
        ValueError: the shapes differ, the lengths don't fit, or there are fewer than 3 points along an axis.
    """
    check_fields(predicted, reference, spatial_dims=spatial_dims)
    difference = squared_h1_norm(predicted - reference, spatial_dims=spatial_dims, periodic=periodic, lengths=lengths)
    norm = squared_h1_norm(reference, spatial_dims=spatial_dims, periodic=periodic, lengths=lengths)
    return (difference / norm).sqrt()


def squared_h1_norm(
    field: Tensor, *, spatial_dims: int = 2, periodic: bool = True, lengths: Sequence[float] | None = None
) -> Tensor:
    """Return the squared norm in H¹ of each sample, the mean over its fields and points, (B,).

    Args:
        field: (B, C, n₁, …, n_d).
        spatial_dims: number d of trailing dimensions that are space.
        periodic: as for :func:`relative_h1_errors`.
        lengths: of the sides of the domain, 1 by default.

    Raises:
        ValueError: the lengths don't fit, or there are fewer than 3 points along an axis.
    """
    shape = field.shape[-spatial_dims:]
    sides = [1.0] * spatial_dims if lengths is None else list(lengths)
    if len(sides) != spatial_dims or not all(side > 0 for side in sides):
        raise ValueError(f"`lengths` are {spatial_dims} positive numbers, got {sides}")
    if min(shape) < 3:
        raise ValueError(f"slopes need 3 points along each axis, got {tuple(shape)}")
    total = field.square().flatten(1).mean(dim=1)
    for axis, (size, side) in enumerate(zip(shape, sides, strict=True), start=field.ndim - spatial_dims):
        spacing = side / size if periodic else side / (size - 1)
        slope = (
            (field.roll(-1, dims=axis) - field.roll(1, dims=axis)) / (2 * spacing)
            if periodic
            else torch.gradient(field, spacing=spacing, dim=axis, edge_order=2)[0]
        )
        total = total + slope.square().flatten(1).mean(dim=1)
    return total


class RelativeH1(Metric):
    """The mean of :func:`relative_h1_errors` over all samples that were seen, in float64.

    Args:
        spatial_dims: number of trailing dimensions that are space.
        periodic: in all directions.
        lengths: of the sides of the domain, 1 by default.
        **kwargs: for :class:`torchmetrics.Metric`.

    Raises:
        ValueError: ``update`` gets shapes that differ or a reference that is zero, or ``compute`` comes before any.

    Example:
        >>> error = RelativeH1(spatial_dims=1)
        >>> error(torch.tensor([[[1.1, 1.1, 1.1]]]), torch.tensor([[[1.0, 1.0, 1.0]]]))
        tensor(0.1000, dtype=torch.float64)
    """

    is_differentiable = True
    higher_is_better = False
    full_state_update = False

    total: Tensor
    num_samples: Tensor

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        periodic: bool = True,
        lengths: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.spatial_dims, self.periodic, self.lengths = spatial_dims, periodic, lengths
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, reference: Tensor) -> None:
        """Add a batch of predictions and references, both (B, C, n₁, …, n_d).

        Raises:
            ValueError: the shapes differ, or a reference is zero.
        """
        if bool((reference == 0).flatten(1).all(dim=1).any()):
            raise ValueError("a reference is zero everywhere, so a relative error doesn't exist: leave it out.")
        errors = relative_h1_errors(
            predicted.double(),
            reference.double(),
            spatial_dims=self.spatial_dims,
            periodic=self.periodic,
            lengths=self.lengths,
        )
        self.total = self.total + errors.sum()
        self.num_samples = self.num_samples + len(errors)

    def compute(self) -> Tensor:
        """Return the mean error, a scalar."""
        if not bool(self.num_samples > 0):
            raise ValueError("the mean error needs a sample: call `update` first.")
        return self.total / self.num_samples
