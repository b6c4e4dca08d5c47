"""Kolmogorov flow: a fluid driven by a sine of the height."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.pde.random_field import GaussianRandomField
from lightning_regimes.pde.vorticity import VorticityEquation, integrate_vorticity


@dataclass(frozen=True)
class KolmogorovFlow:
    """Vorticity on the torus of side ``2π``: ``w_t + v·∇w = Δw / Re − μ w − n cos ny``.

    It starts from ``N(0, 7^1.5 (−Δ + 49)^−2.5)``.

    Attributes:
        reynolds: ``Re``; the flow gets harder to predict as it grows.
        wave_number: ``n`` of the forcing.
        drag: ``μ``.
        step: the longest time step.

    Raises:
        ValueError: a number is out of range.

    References:
        Z. Li et al., "Physics-informed neural operator for learning partial differential equations", ACM/JMS Journal
        of Data Science 1, 2024, arXiv:2111.03794, section 4.1.
    """

    reynolds: float = 500.0
    wave_number: int = 4
    drag: float = 0.0
    step: float = 0.005

    def __post_init__(self) -> None:
        for name, value in (("reynolds", self.reynolds), ("wave_number", self.wave_number), ("step", self.step)):
            if value <= 0:
                raise ValueError(f"`{name}` must be positive, got {value}.")
        if self.drag < 0:
            raise ValueError(f"`drag` must not be negative, got {self.drag}.")

    @property
    def field(self) -> GaussianRandomField:
        """The distribution of initial vorticity."""
        return GaussianRandomField(
            exponent=2.5, inverse_length=7.0, scale=7**1.5, boundary="periodic", length=2 * math.pi
        )

    def initial(self, indices: Sequence[int], *, resolution: int, seed: Sequence[int] = (0,)) -> Tensor:
        """Return random initial vorticity, ``(len(indices), n, n)``; see :meth:`GaussianRandomField.sample`."""
        return self.field.sample(indices, resolution=resolution, seed=seed)

    def equation(self, resolution: int) -> VorticityEquation:
        """Return the equation on a grid of ``resolution`` nodes a side, ``2π i/n``."""
        height = torch.arange(resolution, dtype=torch.float64) * (2 * math.pi / resolution)
        forcing = (-self.wave_number * (self.wave_number * height).cos()).expand(resolution, resolution)
        return VorticityEquation(
            resolution=resolution,
            viscosity=1 / self.reynolds,
            forcing=forcing,
            length=2 * math.pi,
            drag=self.drag,
        )

    def solve(self, initial: Tensor, *, num_frames: int, frame_interval: float = 1.0) -> Tensor:
        """Return frames of vorticity from initial ones ``(…, n, n)``; see :func:`integrate_vorticity`."""
        return integrate_vorticity(
            self.equation(initial.shape[-1]),
            initial,
            num_frames=num_frames,
            frame_interval=frame_interval,
            step=self.step,
        )
