"""Random directions at the scale of the weights that they move."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lightning_regimes.probe import LossProbe

Normalization = Literal["none", "layer", "filter"]


def normalized(probe: LossProbe, direction: Tensor, normalize: Normalization) -> Tensor:
    r"""Return a direction whose filters, or layers, have the norms of the weights at the same place.

    .. math:: d_j \leftarrow d_j \, \frac{\|w_j\|}{\|d_j\|}

    for each filter j, that is each index of the first dimension of a weight (an output of a dense layer, an output
    channel of a convolution), or for each weight as a whole with ``"layer"``. Parameters of one dimension, as biases
    and the scales and shifts of normalisation layers, are not moved: their part of the direction is zero.

    Args:
        probe: whose parameters are the weights.
        direction: shape (num_parameters,).
        normalize: ``"filter"``, ``"layer"``, or ``"none"`` for no change.

    Raises:
        ValueError: nothing would be left of the direction.

    References:
        Li, Xu, Taylor, Studer, Goldstein, Visualizing the loss landscape of neural nets, arXiv:1712.09913, section 4.
    """
    if normalize == "none":
        return direction
    pieces = [
        _scaled(piece, leaf.detach(), normalize, is_complex=name in probe.complex_parameters)
        for piece, (name, leaf) in zip(probe.unflatten(direction), probe.parameters.items(), strict=True)
    ]
    scaled = probe.flatten(pieces)
    if not bool(scaled.any()):
        raise ValueError(
            f"`normalize`={normalize!r} leaves nothing of the direction, since no parameter has two dimensions and a "
            "norm other than zero; use 'none'"
        )
    return scaled


def _scaled(direction: Tensor, weight: Tensor, normalize: Normalization, *, is_complex: bool) -> Tensor:
    if weight.ndim - is_complex < 2:
        return torch.zeros_like(direction)
    rows = (len(weight), -1) if normalize == "filter" else (1, -1)
    norms = torch.linalg.vector_norm(weight.reshape(rows), dim=1, keepdim=True)
    own = torch.linalg.vector_norm(direction.reshape(rows), dim=1, keepdim=True)
    return (direction.reshape(rows) * torch.where(own > 0, norms / own, 0.0)).view_as(direction)
