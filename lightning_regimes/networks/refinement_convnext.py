"""The ConvNeXt that refines a predicted field."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_regimes.networks.field_convolution import (
    Padding,
    check_sizes,
    field_convolution,
    field_normalization,
    small_output,
)


class ConvNeXtBlock(nn.Module):
    """``u + s · W₂ gelu(W₁ norm(D u))`` with a depthwise convolution D, pointwise W, and a scale s for each channel.

    Args:
        channels: C of (B, C, n₁, …).
        kernel_size: of D.
        dim: number of dimensions of space.
        padding: of D.
        expansion: channels between W₁ and W₂, as a multiple of C.
    """

    def __init__(self, channels: int, *, kernel_size: int, dim: int, padding: Padding, expansion: int = 4) -> None:
        super().__init__()
        inner = expansion * channels
        self.branch = nn.Sequential(
            field_convolution(channels, channels, kernel_size=kernel_size, dim=dim, padding=padding, groups=channels),
            field_normalization(channels, kind="layer", dim=dim),
            field_convolution(channels, inner, kernel_size=1, dim=dim, padding="zeros"),
            nn.GELU(),
            field_convolution(inner, channels, kernel_size=1, dim=dim, padding="zeros"),
        )
        self.scale = nn.Parameter(torch.full((channels, *[1] * dim), 0.1))

    def forward(self, fields: Tensor) -> Tensor:
        """Return fields of the same shape."""
        refined: Tensor = fields + self.scale * self.branch(fields)
        return refined


class RefinementConvNeXt(nn.Module):
    """ConvNeXt blocks at full resolution, from ``(B, in_channels, n₁, …)`` to ``(B, out_channels, n₁, …)``.

    Args:
        in_channels: for a refinement, the channels of the operator's input and of its output together.
        out_channels: those of the operator's output.
        hidden_channels: of all blocks.
        num_blocks: how many there are.
        kernel_size: of their depthwise convolutions, odd.
        dim: number of dimensions of space.
        padding: "circular" for periodic fields, "zeros", "reflect" or "replicate" for others.

    Attributes:
        arguments: what it was made with, for configuration files and checkpoints.

    Raises:
        ValueError: an argument is out of its range.

    References:
        Z. Liu et al., "A ConvNet for the 2020s", CVPR 2022, arXiv:2201.03545.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        *,
        hidden_channels: int = 24,
        num_blocks: int = 4,
        kernel_size: int = 7,
        dim: int = 2,
        padding: Padding = "circular",
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "hidden_channels": hidden_channels,
            "num_blocks": num_blocks,
            "kernel_size": kernel_size,
            "dim": dim,
            "padding": padding,
        }
        check_sizes(
            dim=dim,
            padding=padding,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            num_blocks=num_blocks,
            kernel_size=kernel_size,
        )
        if kernel_size % 2 == 0:
            raise ValueError(f"`kernel_size` is odd, got {kernel_size}")
        self.in_channels, self.out_channels, self.dim, self.padding = in_channels, out_channels, dim, padding
        self.layers = nn.Sequential(
            field_convolution(in_channels, hidden_channels, kernel_size=3, dim=dim, padding=padding),
            *(
                ConvNeXtBlock(hidden_channels, kernel_size=kernel_size, dim=dim, padding=padding)
                for _ in range(num_blocks)
            ),
            small_output(hidden_channels, out_channels, dim=dim),
        )

    def forward(self, fields: Tensor) -> Tensor:
        """Return the correction of fields (B, in_channels, n₁, …)."""
        correction: Tensor = self.layers(fields)
        return correction
