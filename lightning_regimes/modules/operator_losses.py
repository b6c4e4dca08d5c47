"""Relative errors of predicted fields as training losses."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from lightning_regimes.metrics.sobolev import relative_h1_errors

LossKind = Literal["l2", "h1"]


def relative_l2_errors(predicted: Tensor, reference: Tensor) -> Tensor:
    """Return ``‖û − u‖₂ / ‖u‖₂`` of each sample over its channels and points, (B,), in the dtype of the reference."""
    difference = (predicted - reference).flatten(1).norm(dim=1)
    return difference / reference.flatten(1).norm(dim=1)


def relative_errors(predicted: Tensor, reference: Tensor, *, kind: LossKind, periodic: bool) -> Tensor:
    """Return the relative error of each sample in L² or H¹, (B,).

    Args:
        predicted: û, (B, C, n₁, …).
        reference: u, the same shape.
        kind: "l2" or "h1".
        periodic: how slopes are taken at the ends of the domain, for "h1".

    Raises:
        ValueError: the shapes differ.
    """
    if predicted.shape != reference.shape:
        raise ValueError(
            f"the operator returned fields of shape {tuple(predicted.shape)} for targets of shape "
            f"{tuple(reference.shape)}: set its `out_channels`, or the datamodule's resolution"
        )
    if kind == "l2":
        return relative_l2_errors(predicted, reference)
    return relative_h1_errors(predicted, reference, spatial_dims=predicted.ndim - 2, periodic=periodic)


def check_loss(kind: LossKind) -> None:
    """Raise a ValueError unless it's the name of a loss."""
    if kind not in get_args(LossKind):
        raise ValueError(f"`loss` is 'l2' or 'h1', got {kind!r}")
