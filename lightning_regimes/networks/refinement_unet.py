"""The U-Net that refines a predicted field."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_regimes.networks.field_convolution import (
    Normalization,
    Padding,
    check_sizes,
    field_convolution,
    field_normalization,
    field_pooling,
    interpolation_mode,
    small_output,
)


class RefinementUNet(nn.Module):
    """A U-Net from ``(B, in_channels, n₁, …)`` to ``(B, out_channels, n₁, …)``, of any resolution.

    Each level has two convolutions of width 3, each with normalisation and GELU. Going down, the resolution halves by
    a maximum and the channels double; going up, fields are interpolated linearly and joined with those of the same
    level. The last layer starts small.

    Args:
        in_channels: for a refinement, the channels of the operator's input and of its output together.
        out_channels: those of the operator's output.
        hidden_channels: of the finest level.
        depth: number of times that the resolution halves.
        dim: number of dimensions of space.
        padding: "circular" for periodic fields, "zeros", "reflect" or "replicate" for others.
        normalization: "layer", "batch" or "group".

    Attributes:
        arguments: what it was made with, for configuration files and checkpoints.

    Raises:
        ValueError: an argument is out of its range, or a field has fewer than 2 points a side on the coarsest level.

    References:
        O. Ronneberger, P. Fischer, T. Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI
        2015, arXiv:1505.04597.
    """

    def __init__(
        self,
        in_channels: int = 2,
        out_channels: int = 1,
        *,
        hidden_channels: int = 16,
        depth: int = 2,
        dim: int = 2,
        padding: Padding = "circular",
        normalization: Normalization = "group",
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {
            "in_channels": in_channels,
            "out_channels": out_channels,
            "hidden_channels": hidden_channels,
            "depth": depth,
            "dim": dim,
            "padding": padding,
            "normalization": normalization,
        }
        check_sizes(
            dim=dim,
            padding=padding,
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            depth=depth,
        )
        if normalization not in ("layer", "batch", "group"):
            raise ValueError(f"`normalization` is 'layer', 'batch' or 'group', got {normalization!r}")
        self.in_channels, self.out_channels, self.depth, self.dim = in_channels, out_channels, depth, dim
        self.padding = padding
        widths = [hidden_channels * 2**level for level in range(depth + 1)]

        def level(inputs: int, outputs: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels in (inputs, outputs):
                layers += [
                    field_convolution(channels, outputs, kernel_size=3, dim=dim, padding=padding),
                    field_normalization(outputs, kind=normalization, dim=dim),
                    nn.GELU(),
                ]
            return nn.Sequential(*layers)

        self.down = nn.ModuleList(
            level(inputs, outputs) for inputs, outputs in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = field_pooling(dim)
        self.up = nn.ModuleList(
            level(fine + coarse, fine) for fine, coarse in zip(widths[-2::-1], widths[:0:-1], strict=True)
        )
        self.output = small_output(hidden_channels, out_channels, dim=dim)

    def forward(self, fields: Tensor) -> Tensor:
        """Return the correction of fields (B, in_channels, n₁, …)."""
        coarsest = min(fields.shape[2:]) >> self.depth
        if coarsest < 2:
            raise ValueError(
                f"a U-Net of depth {self.depth} takes at least {2 << self.depth} points a side, got "
                f"{tuple(fields.shape[2:])}"
            )
        skipped: list[Tensor] = []
        for level in self.down:
            fields = level(self.pool(fields) if skipped else fields)
            skipped.append(fields)
        skipped.pop()
        for level in self.up:
            skip = skipped.pop()
            fields = F.interpolate(fields, skip.shape[2:], mode=interpolation_mode(self.dim), align_corners=True)
            fields = level(torch.cat([skip, fields], dim=1))
        correction: Tensor = self.output(fields)
        return correction
