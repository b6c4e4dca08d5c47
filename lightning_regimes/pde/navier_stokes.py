"""Forced turbulence on the unit torus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_regimes.pde.random_field import GaussianRandomField
from lightning_regimes.pde.vorticity import VorticityEquation, integrate_vorticity


@dataclass(frozen=True)
class NavierStokesFlow:
    """Vorticity on the unit torus: ``w_t + v·∇w = ν Δw + A (sin 2π(x + y) + cos 2π(x + y))``.

    It starts from ``N(0, c (−Δ + 49)^−2.5)``.

    Attributes:
        viscosity: ``ν``; the flow gets harder to predict as it falls.
        forcing_amplitude: ``A``.
        initial_scale: ``c``, ``7^1.5`` in the paper; the program published with it takes ``7³``, which makes the
            vorticity 4.3 times as strong at the beginning.
        step: the longest time step.

    Raises:
        ValueError: a number is out of range.

    References:
        Z. Li et al., "Fourier neural operator for parametric partial differential equations", ICLR 2021,
        arXiv:2010.08895, section 5.3 and appendix A.3.3.
    """

    viscosity: float = 1e-3
    forcing_amplitude: float = 0.1
    initial_scale: float = 7**1.5
    step: float = 0.02

    def __post_init__(self) -> None:
        if self.viscosity < 0:
            raise ValueError(
                f"`viscosity` must not be negative, got {self.viscosity}: the equation would be ill-posed."
            )
        if self.step <= 0:
            raise ValueError(f"`step` must be positive, got {self.step}.")
        _ = self.field

    @property
    def field(self) -> GaussianRandomField:
        """The distribution of initial vorticity."""
        return GaussianRandomField(exponent=2.5, inverse_length=7.0, scale=self.initial_scale, boundary="periodic")

    def initial(self, indices: Sequence[int], *, resolution: int, seed: Sequence[int] = (0,)) -> Tensor:
        """Return random initial vorticity, ``(len(indices), n, n)``; see :meth:`GaussianRandomField.sample`."""
        return self.field.sample(indices, resolution=resolution, seed=seed)

    def equation(self, resolution: int) -> VorticityEquation:
        """Return the equation on a grid of ``resolution`` nodes a side, ``i/n``."""
        place = torch.arange(resolution, dtype=torch.float64) / resolution
        angle = 2 * math.pi * (place[:, None] + place)
        forcing = self.forcing_amplitude * (angle.sin() + angle.cos())
        return VorticityEquation(resolution=resolution, viscosity=self.viscosity, forcing=forcing)

    def solve(self, initial: Tensor, *, num_frames: int, frame_interval: float = 1.0) -> Tensor:
        """Return frames of vorticity from initial ones ``(…, n, n)``; see :func:`integrate_vorticity`."""
        return integrate_vorticity(
            self.equation(initial.shape[-1]),
            initial,
            num_frames=num_frames,
            frame_interval=frame_interval,
            step=self.step,
        )
