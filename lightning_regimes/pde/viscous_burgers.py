"""The viscous Burgers equation on a periodic interval, from random initial values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_regimes.pde.etdrk4 import etdrk4
from lightning_regimes.pde.random_field import GaussianRandomField


@dataclass(frozen=True)
class ViscousBurgers:
    """``u_t + u u_x = ν u_xx`` on the periodic interval ``[0, 1]``, with ``u(x, 0)`` from ``N(0, 625 (−Δ + 25)^−2)``.

    Attributes:
        viscosity: ``ν``, 0.01 in the second reference, 0.1 in the first; slopes get as steep as one over it.
        step: the longest time step.

    Raises:
        ValueError: a number is out of range.

    References:
        Z. Li et al., "Fourier neural operator for parametric partial differential equations", ICLR 2021,
        arXiv:2010.08895, section 5.1 and appendix A.3.1.

        Z. Li et al., "Physics-informed neural operator for learning partial differential equations", ACM/JMS Journal
        of Data Science 1, 2024, arXiv:2111.03794, section 4.1.
    """

    viscosity: float = 0.01
    step: float = 0.005

    def __post_init__(self) -> None:
        for name, value in (("viscosity", self.viscosity), ("step", self.step)):
            if value <= 0:
                raise ValueError(f"`{name}` must be positive, got {value}.")

    @property
    def field(self) -> GaussianRandomField:
        """The distribution of initial values."""
        return GaussianRandomField(exponent=2.0, inverse_length=5.0, scale=625.0, boundary="periodic", dimension=1)

    def initial(self, indices: Sequence[int], *, resolution: int, seed: Sequence[int] = (0,)) -> Tensor:
        """Return random initial values, ``(len(indices), n)``; see :meth:`GaussianRandomField.sample`."""
        return self.field.sample(indices, resolution=resolution, seed=seed)

    def solve(self, initial: Tensor, *, num_frames: int = 2, frame_interval: float = 1.0) -> Tensor:
        """Return the solution at the times ``0, Δt, …, (num_frames − 1) Δt``, ``(…, num_frames, n)`` in float64.

        Args:
            initial: ``(…, n)`` at the places ``i/n``; what it has above two thirds of the highest wave number is left
                out.
            num_frames: number of times.
            frame_interval: ``Δt``.

        Raises:
            ValueError: a number is out of range.
            FloatingPointError: the solution grew beyond all bounds.
        """
        if num_frames < 1:
            raise ValueError(f"`num_frames` must be at least 1, got {num_frames}.")
        if not frame_interval > 0:
            raise ValueError(f"`frame_interval` must be positive, got {frame_interval}.")
        size = initial.shape[-1]
        wave_numbers = 2 * math.pi * np.arange(size // 2 + 1, dtype=np.float64)
        kept = np.arange(size // 2 + 1) < size / 3

        def advection(values: NDArray[np.float64]) -> NDArray[np.float64]:
            slope = 1j * wave_numbers * kept * np.fft.rfft(values**2)
            return -np.fft.irfft(slope, n=size) / 2

        start = np.fft.irfft(kept * np.fft.rfft(initial.detach().cpu().double().numpy()), n=size)
        frames = [start]
        num_steps = max(1, math.ceil(frame_interval / self.step - 1e-9))
        for number in range(1, num_frames):
            with np.errstate(over="ignore", invalid="ignore"):
                start = etdrk4(
                    start, -self.viscosity * wave_numbers**2, advection, duration=frame_interval, num_steps=num_steps
                )[-1]
            if not np.isfinite(start).all():
                raise FloatingPointError(
                    f"the solution grew beyond all bounds before t = {number * frame_interval:g}; "
                    f"lower `step`, now {self.step:g}."
                )
            frames.append(start)
        return torch.from_numpy(np.stack(frames, axis=-2))
