"""Convolutions over fields in one, two or three dimensions, and what goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

Padding = Literal["circular", "zeros", "reflect", "replicate"]
Normalization = Literal["layer", "batch", "group"]


def continued(fields: Tensor, widths: Sequence[int]) -> Tensor:
    """Return periodic fields (B, C, n₁, …) with so many points of the opposite side added at both ends of each axis."""
    for axis, width in enumerate(widths, start=2):
        end = fields.narrow(axis, fields.shape[axis] - width, width)
        fields = torch.cat([end, fields, fields.narrow(axis, 0, width)], dim=axis)
    return fields


class _Circular:
    # Torch's own circular padding copies slices one by one: its derivative costs half as much again as a small
    # convolution does. This takes two thirds of that off, to the same numbers.
    kernel_size: tuple[int, ...]

    def forward(self, fields: Tensor) -> Tensor:
        convolved: Tensor = super().forward(continued(fields, [size // 2 for size in self.kernel_size]))  # type: ignore[misc]
        return convolved


class _CircularConv1d(_Circular, nn.Conv1d): ...


class _CircularConv2d(_Circular, nn.Conv2d): ...


class _CircularConv3d(_Circular, nn.Conv3d): ...


_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_CIRCULAR_CONVOLUTIONS = {1: _CircularConv1d, 2: _CircularConv2d, 3: _CircularConv3d}
_BATCH_NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOLS: dict[int, type[nn.Module]] = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_INTERPOLATIONS = {1: "linear", 2: "bilinear", 3: "trilinear"}


def field_convolution(
    in_channels: int, out_channels: int, *, kernel_size: int, dim: int, padding: Padding, groups: int = 1
) -> nn.Module:
    """Return a convolution that keeps the size of a field (B, C, n₁, …, n_dim)."""
    if padding == "circular":
        return _CIRCULAR_CONVOLUTIONS[dim](in_channels, out_channels, kernel_size, groups=groups)
    return _CONVOLUTIONS[dim](
        in_channels, out_channels, kernel_size, padding=kernel_size // 2, padding_mode=padding, groups=groups
    )


def field_normalization(channels: int, *, kind: Normalization, dim: int) -> nn.Module:
    """Return a normalisation: "layer" and "group" over one and up to four groups of channels of a sample, "batch"."""
    if kind == "batch":
        return _BATCH_NORMS[dim](channels)
    groups = 1 if kind == "layer" else next(count for count in (4, 2, 1) if channels % count == 0)
    return nn.GroupNorm(groups, channels)


def field_pooling(dim: int) -> nn.Module:
    """Return the maximum over pairs of points along each axis."""
    return _POOLS[dim](2)


def interpolation_mode(dim: int) -> str:
    """Return the name of linear interpolation in so many dimensions."""
    return _INTERPOLATIONS[dim]


def small_output(in_channels: int, out_channels: int, *, dim: int) -> nn.Module:
    """Return a pointwise map that starts small, so that what it corrects starts nearly as it was."""
    output = field_convolution(in_channels, out_channels, kernel_size=1, dim=dim, padding="zeros")
    nn.init.xavier_uniform_(output.weight, gain=0.1)  # type: ignore[arg-type]
    nn.init.zeros_(output.bias)  # type: ignore[arg-type]
    return output


def check_sizes(*, dim: int, padding: Padding, **sizes: int) -> None:
    """Raise a ValueError unless the number of dimensions and the padding exist and all sizes are positive."""
    if dim not in _CONVOLUTIONS:
        raise ValueError(f"`dim` is 1, 2 or 3, got {dim}")
    if padding not in ("circular", "zeros", "reflect", "replicate"):
        raise ValueError(f"`padding` is 'circular', 'zeros', 'reflect' or 'replicate', got {padding!r}")
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"`{name}` is at least 1, got {size}")
