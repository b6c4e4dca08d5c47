"""Derivatives of a field with respect to its points."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Field: TypeAlias = Callable[[Tensor], Tensor]
"""A map from points ``(N, d)`` to values ``(N, m)``, each row independent of the others."""


def differentiable(points: Tensor) -> Tensor:
    """Return the points as a tensor that derivatives can be taken with respect to.

    Points that already require a gradient are returned unchanged, so that a caller may differentiate further.

    Args:
        points: ``(N, d)``.

    Raises:
        RuntimeError: gradients are disabled, so that every derivative would silently be missing.
    """
    if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
        raise RuntimeError(
            "A differential equation needs derivatives of the field, but gradients are disabled here: evaluate it "
            "under `torch.inference_mode(False)` and `torch.enable_grad()`."
        )
    if points.requires_grad:
        return points
    leaf = points.clone() if points.is_inference() else points.detach()
    # The attribute, unlike `requires_grad_()`, is also allowed inside the transforms of `torch.func`.
    leaf.requires_grad = True
    return leaf


def gradient(values: Tensor, points: Tensor) -> Tensor:
    """Return the gradient of one value a point with respect to that point, ``∂v_i/∂p_i``.

    The result stays differentiable, with respect to the points and to the parameters of the field.

    Args:
        values: ``(N,)`` or ``(N, 1)``, computed from ``points`` row by row.
        points: ``(N, d)``, from :func:`differentiable`.

    Returns:
        ``(N, d)``; zeros where the values don't depend on the points.

    Raises:
        ValueError: there is more than one value a point.
    """
    if values.numel() != points.shape[0]:
        raise ValueError(
            f"`values` must hold one number for each of the {points.shape[0]} points, got shape "
            f"{tuple(values.shape)}: differentiate one field at a time."
        )
    if not values.requires_grad:
        return torch.zeros_like(points)
    (result,) = torch.autograd.grad(values, points, torch.ones_like(values), create_graph=True, materialize_grads=True)
    return result
