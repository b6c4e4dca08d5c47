"""Steady diffusion and advection of random sources, in a random direction each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.pde.gaussian_sources import GaussianSources


@dataclass(frozen=True)
class SteadyTransport:
    """``−∇·(K ∇u) + v·∇u = f`` on the unit torus, with mean zero: the Poisson equation with a tensor where ``v = 0``.

    The symmetric tensor ``K`` has the eigenvalues 1 and ``e`` and a random direction, with ``e`` uniform in
    ``eigenvalues``. The velocity ``v`` has a random direction and the speed at which
    ``‖v·∇u‖ / ‖∇·(K ∇u)‖`` is a number that is uniform in ``advection``. The source ``f`` is a random sum of Gaussians.
    The solution is exact for what the grid resolves of ``f``.

    Attributes:
        eigenvalues: lowest and highest ``e``.
        advection: lowest and highest share of advection; zeros leave it out.
        sources: distribution of ``f``.

    Raises:
        ValueError: a range is empty or has values that it must not have.

    References:
        S. Subramanian et al., "Towards foundation models for scientific machine learning: characterizing scaling and
        transfer behavior", NeurIPS 2023, arXiv:2306.00258, section 3.
    """

    eigenvalues: tuple[float, float] = (1.0, 5.0)
    advection: tuple[float, float] = (0.0, 0.0)
    sources: GaussianSources = field(default_factory=GaussianSources)

    def __post_init__(self) -> None:
        for name, (low, high), lowest in (("eigenvalues", self.eigenvalues, 1.0), ("advection", self.advection, 0.0)):
            if not lowest <= low <= high < math.inf:
                raise ValueError(f"`{name}` must be a range from {lowest:g} on, got ({low}, {high}).")
        if self.advection[1] > 0 and self.advection[0] == 0:
            raise ValueError("`advection` must be two zeros or begin above zero.")

    def sample(
        self, indices: Sequence[int], *, resolution: int, seed: Sequence[int] = (0,)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return random sources, tensors and velocities in float64.

        Args:
            indices: numbers of the samples; each depends on its number and the seed only.
            resolution: ``n``, nodes on a side, at ``i/n``.
            seed: whole numbers.

        Returns:
            ``f`` ``(B, n, n)``; ``K_xx, K_xy, K_yy`` ``(B, 3)``; ``v_x, v_y`` ``(B, 2)``.
        """
        source = self.sources.sample(indices, resolution=resolution, seed=seed)
        # The sources take the generator of (seed, index); a further number makes another stream.
        draws = np.stack([np.random.default_rng([*seed, index, 1]).random(4) for index in indices])
        turned, largest, heading, share = torch.from_numpy(draws).unbind(dim=1)
        largest = self.eigenvalues[0] + (self.eigenvalues[1] - self.eigenvalues[0]) * largest
        share = self.advection[0] + (self.advection[1] - self.advection[0]) * share
        along, across = torch.cos(math.pi * turned), torch.sin(math.pi * turned)
        tensor = torch.stack(
            [along**2 * largest + across**2, along * across * (largest - 1), across**2 * largest + along**2], dim=1
        )
        direction = torch.stack([torch.cos(2 * math.pi * heading), torch.sin(2 * math.pi * heading)], dim=1)
        if self.advection[1] == 0:
            return source, tensor, torch.zeros_like(direction)
        return source, tensor, direction * self._speed(source, tensor, direction, share).unsqueeze(1)

    def solve(self, source: Tensor, tensor: Tensor, velocity: Tensor) -> Tensor:
        """Return the solutions, ``(…, n, n)`` in float64.

        Args:
            source: ``f``, ``(…, n, n)``; its mean is left out.
            tensor: ``(…, 3)``.
            velocity: ``(…, 2)``.
        """
        spectrum = torch.fft.rfft2(source.double())
        diffusion, advection = _symbols(source.shape[-1], tensor.double(), velocity.double())
        symbol = torch.complex(diffusion, advection)
        symbol[..., 0, 0] = math.inf
        solution: Tensor = torch.fft.irfft2(spectrum / symbol, s=source.shape[-2:])
        return solution

    def residual(self, source: Tensor, tensor: Tensor, velocity: Tensor, solution: Tensor) -> Tensor:
        """Return ``−∇·(K ∇u) + v·∇u − f``, ``(…, n, n)``, with derivatives in Fourier space as :meth:`solve` has them.

        Raises:
            ValueError: ``source`` and ``solution`` differ in shape, or their grid is not square.
        """
        if source.shape != solution.shape or source.shape[-1] != source.shape[-2]:
            raise ValueError(
                "`source` and `solution` must both be (…, n, n), "
                f"got {tuple(source.shape)} and {tuple(solution.shape)}."
            )
        diffusion, advection = _symbols(source.shape[-1], tensor, velocity)
        spectrum = torch.fft.rfft2(solution) * torch.complex(diffusion, advection)
        transported: Tensor = torch.fft.irfft2(spectrum, s=source.shape[-2:])
        return transported - source

    def _speed(self, source: Tensor, tensor: Tensor, direction: Tensor, share: Tensor) -> Tensor:
        """Return the speed at which advection has its share, by halving an interval of its logarithm."""
        power = torch.fft.fft2(source).abs()[..., : source.shape[-1] // 2 + 1] ** 2
        # All but the first and, of an even grid, the last column stand for two.
        power[..., 1 : (source.shape[-1] + 1) // 2] *= 2
        power[..., 0, 0] = 0.0
        diffusion, unit = _symbols(source.shape[-1], tensor, direction)
        diffusion[..., 0, 0] = 1.0

        def exceeds(logarithm: Tensor) -> Tensor:
            advection = unit * logarithm.exp()[:, None, None]
            weight = power / (diffusion**2 + advection**2)
            ratio: Tensor = (weight * advection**2).sum(dim=(1, 2)) / (weight * diffusion**2).sum(dim=(1, 2))
            return ratio > share**2

        low, high = torch.full_like(share, -12.0), torch.full_like(share, 14.0)
        if not bool(exceeds(high).all()):
            raise ValueError(f"no speed gives advection a share of {float(share.max()):g}; lower `advection`.")
        for _ in range(60):
            middle = (low + high) / 2
            above = exceeds(middle)
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return high.exp()


def _symbols(size: int, tensor: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
    """Return what ``−∇·(K ∇ ·)`` and ``v·∇`` multiply Fourier coefficients by, the second over i, each real."""
    whole = 2 * math.pi * torch.fft.fftfreq(size, 1 / size, dtype=tensor.dtype, device=tensor.device).unsqueeze(1)
    half = 2 * math.pi * torch.fft.rfftfreq(size, 1 / size, dtype=tensor.dtype, device=tensor.device)
    # The highest mode of an even grid is its own conjugate: real fields have no odd derivative of it.
    odd_whole = torch.where(whole.abs() < math.pi * size, whole, 0.0)
    odd_half = torch.where(half < math.pi * size, half, 0.0)
    xx, xy, yy = (entry[..., None, None] for entry in tensor.unbind(dim=-1))
    along_x, along_y = (entry[..., None, None] for entry in velocity.unbind(dim=-1))
    diffusion = xx * whole**2 + 2 * xy * odd_whole * odd_half + yy * half**2
    return diffusion, along_x * odd_whole + along_y * odd_half
