"""Collocation points that stand for a small region around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class RegionSampling:
    """Options of region sampling: evaluate the equation at ``p + U(0, 1) · min(r₀ / σ̂, max_radius)``.

    ``σ̂`` is the spread of the last gradients relative to their size, so that regions grow when training is steady.

    Attributes:
        initial_radius: ``r₀``.
        max_radius: largest region.
        window: number of gradients that ``σ̂`` is taken over.
        seed: of the points in the regions.

    Raises:
        ValueError: a number is out of range.

    References:
        H. Wu et al., "RoPINN: Region optimized physics-informed neural networks", NeurIPS 2024, arXiv:2405.14369.
    """

    initial_radius: float = 1e-5
    max_radius: float = 0.01
    window: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.initial_radius <= self.max_radius:
            raise ValueError(
                "`initial_radius` must be positive and at most `max_radius`, got "
                f"{self.initial_radius} and {self.max_radius}."
            )
        if self.window < 2:
            raise ValueError(f"`window` must be at least 2 to have a spread, got {self.window}.")


class TrustRegion(nn.Module):
    """The region around each point: its radius from the last gradients, which are in buffers and hence in checkpoints.

    Args:
        num_parameters: length of the gradients.
        options: see :class:`RegionSampling`.
    """

    gradients: Tensor
    num_gradients: Tensor

    def __init__(self, num_parameters: int, options: RegionSampling) -> None:
        super().__init__()
        self.options = options
        self.register_buffer("gradients", torch.zeros(options.window, num_parameters))
        self.register_buffer("num_gradients", torch.tensor(0))

    def radius(self) -> Tensor:
        """Return ``min(r₀ / σ̂, max_radius)`` with ``σ̂ = mean(std(g) / mean|g|)``; ``r₀`` before the window is full."""
        if int(self.num_gradients) < self.options.window:
            return self.gradients.new_tensor(self.options.initial_radius)
        size = self.gradients.abs().mean(dim=0)
        moving = size > 0
        if not bool(moving.any()):
            return self.gradients.new_tensor(self.options.max_radius)
        spread = self.gradients.std(dim=0, correction=0)[moving] / size[moving]
        return (self.options.initial_radius / spread.mean()).clamp(max=self.options.max_radius)

    def sample(self, points: Tensor, *, step: int) -> Tensor:
        """Return one point from the region of each; the same step gives the same points, whatever else is drawn."""
        generator = torch.Generator().manual_seed(self.options.seed * 1_000_003 + step)
        offset = torch.rand(points.shape, generator=generator, dtype=torch.float64).to(points)
        return points + offset * self.radius().to(points)

    @torch.no_grad()
    def observe(self, gradient: Tensor) -> None:
        """Put a gradient ``(num_parameters,)`` in the place of the oldest one."""
        self.gradients[int(self.num_gradients) % self.options.window] = gradient
        self.num_gradients += 1
