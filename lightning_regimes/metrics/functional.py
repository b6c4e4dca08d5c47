"""Relative errors of predicted fields."""

from __future__ import annotations

import torch
from torch import Tensor


def relative_error(
    predicted: Tensor,
    reference: Tensor,
    *,
    p: int = 2,
    field_dim: int | None = None,
    samplewise: bool = False,
) -> Tensor:
    """Return the relative error ``‖û − u‖_p / ‖u‖_p`` over all elements, in float64.

    Args:
        predicted: ``û``, any shape.
        reference: ``u``, the same shape.
        p: 2 (Euclidean) or 1 (sum of magnitudes).
        field_dim: dimension that counts several fields; each gets its own error.
        samplewise: take one ratio for each entry of the first dimension, then their mean (the usual error of neural
            operators), instead of one ratio for everything.

    Returns:
        A scalar, or ``(num_fields,)``. Predictions that aren't finite make the error not finite, too.

    Raises:
        ValueError: the shapes differ, ``p`` isn't 1 or 2, or the reference is zero so that no relative error exists.
    """
    power_sums = error_power_sums(predicted, reference, p=p, field_dim=field_dim, samplewise=samplewise)
    ratios = ratio_of_norms(*power_sums, p=p)
    return ratios.mean(dim=0) if samplewise else ratios


def error_power_sums(
    predicted: Tensor, reference: Tensor, *, p: int, field_dim: int | None, samplewise: bool
) -> tuple[Tensor, Tensor]:
    """Return ``Σ|û − u|^p`` and ``Σ|u|^p`` in float64, for each sample or field where asked for."""
    if predicted.shape != reference.shape:
        raise ValueError(
            f"`predicted` and `reference` must have the same shape, got {tuple(predicted.shape)} and "
            f"{tuple(reference.shape)}: broadcasting would silently measure something else."
        )
    check_norm(p)
    kept = {0} if samplewise else set()
    if field_dim is not None:
        kept.add(field_dim % predicted.dim())
    if samplewise and field_dim is not None and len(kept) == 1:
        raise ValueError(
            "`field_dim` must not be the first dimension when `samplewise` is set: that one counts samples."
        )
    summed = [dim for dim in range(predicted.dim()) if dim not in kept]
    double = torch.complex128 if reference.is_complex() else torch.float64
    difference = (predicted.to(double) - reference.to(double)).abs() ** p
    magnitude = reference.to(double).abs() ** p
    if not summed:
        return difference, magnitude
    return difference.sum(dim=summed), magnitude.sum(dim=summed)


def ratio_of_norms(difference: Tensor, magnitude: Tensor, *, p: int) -> Tensor:
    """Return ``(Σ|û − u|^p)^{1/p} / (Σ|u|^p)^{1/p}``.

    Raises:
        ValueError: a reference is zero.
    """
    if bool((magnitude == 0).any()):
        raise ValueError(
            "The reference is zero everywhere (in a sample or field), so a relative error doesn't exist: use an "
            "absolute error, or leave such references out."
        )
    ratio = difference / magnitude
    return ratio.sqrt() if p == 2 else ratio


def check_norm(p: int) -> None:
    """Raise a ValueError unless ``p`` is 1 or 2."""
    if p not in (1, 2):
        raise ValueError(f"`p` must be 1 or 2, got {p!r}.")
