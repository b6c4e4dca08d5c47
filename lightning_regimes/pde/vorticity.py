"""Two-dimensional incompressible flow on the torus, by its vorticity in Fourier space."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class VorticityEquation:
    """``w_t + v·∇w = ν Δw − μ w + g`` on a periodic square, where ``v = (ψ_y, −ψ_x)`` and ``−Δψ = w``.

    Products are formed on the grid from modes below two thirds of the highest wave number, which keeps them free of
    aliasing. The linear part is stepped by the Crank–Nicolson rule and the rest by Heun's: both are of second order.

    Args:
        resolution: ``n``, nodes on a side.
        viscosity: ``ν``.
        forcing: ``g``, ``(n, n)``, constant in time.
        length: side of the square.
        drag: ``μ``.
    """

    def __init__(
        self,
        *,
        resolution: int,
        viscosity: float,
        forcing: Tensor | None = None,
        length: float = 1.0,
        drag: float = 0.0,
    ) -> None:
        self.resolution = resolution
        unit = 2 * math.pi / length
        whole = torch.fft.fftfreq(resolution, 1 / resolution, dtype=torch.float64)
        half = torch.fft.rfftfreq(resolution, 1 / resolution, dtype=torch.float64)
        kept: Tensor = (whole.abs()[:, None] < resolution / 3) & (half < resolution / 3)
        self._kept = kept
        self._derivative_x = 1j * unit * whole[:, None]
        self._derivative_y = 1j * unit * half
        squared = (unit * whole[:, None]) ** 2 + (unit * half) ** 2
        self._inverse_laplacian = torch.where(squared > 0, 1 / squared, 0.0)
        self._linear = -viscosity * squared - drag
        if forcing is None:
            forcing = torch.zeros(resolution, resolution, dtype=torch.float64)
        self._forcing = self.transform(forcing)

    def transform(self, vorticity: Tensor) -> Tensor:
        """Return the Fourier coefficients that are kept of fields ``(…, n, n)``."""
        spectrum: Tensor = torch.fft.rfft2(vorticity.double()) * self._kept
        return spectrum

    def values(self, spectrum: Tensor) -> Tensor:
        """Return the fields of coefficients, ``(…, n, n)``."""
        values: Tensor = torch.fft.irfft2(spectrum, s=(self.resolution, self.resolution))
        return values

    def velocity(self, spectrum: Tensor) -> tuple[Tensor, Tensor]:
        """Return the velocity along ``x`` (the second to last dimension) and ``y``, each ``(…, n, n)``."""
        stream = spectrum * self._inverse_laplacian
        return self.values(self._derivative_y * stream), self.values(-self._derivative_x * stream)

    def explicit(self, spectrum: Tensor) -> Tensor:
        """Return the coefficients of ``−v·∇w + g``."""
        along_x, along_y = self.velocity(spectrum)
        slope_x, slope_y = self.values(self._derivative_x * spectrum), self.values(self._derivative_y * spectrum)
        return self._forcing - self.transform(along_x * slope_x + along_y * slope_y)

    def advance(self, spectrum: Tensor, *, duration: float, num_steps: int) -> Tensor:
        """Return the coefficients after a duration, by ``num_steps`` equal steps."""
        step = duration / num_steps
        decay = (1 + step / 2 * self._linear) / (1 - step / 2 * self._linear)
        weight = step / (1 - step / 2 * self._linear)
        for _ in range(num_steps):
            at_start = self.explicit(spectrum)
            decayed = decay * spectrum
            at_end = self.explicit(decayed + weight * at_start)
            spectrum = decayed + weight / 2 * (at_start + at_end)
        return spectrum


def integrate_vorticity(
    equation: VorticityEquation, initial: Tensor, *, num_frames: int, frame_interval: float, step: float
) -> Tensor:
    """Return the vorticity at the times ``0, Δt, …, (num_frames − 1) Δt``, ``(…, num_frames, n, n)`` in float64.

    Args:
        equation: on the grid of ``initial``.
        initial: ``(…, n, n)``; what it has above two thirds of the highest wave number is left out.
        num_frames: number of times.
        frame_interval: ``Δt``.
        step: the longest time step; steps divide ``Δt``.

    Raises:
        ValueError: a number is out of range, or the grid of ``initial`` is another.
        FloatingPointError: the solution grew beyond all bounds.
    """
    if num_frames < 1:
        raise ValueError(f"`num_frames` must be at least 1, got {num_frames}.")
    for name, value in (("frame_interval", frame_interval), ("step", step)):
        if not value > 0:
            raise ValueError(f"`{name}` must be positive, got {value}.")
    if initial.shape[-2:] != (equation.resolution, equation.resolution):
        raise ValueError(
            f"`initial` must be (…, {equation.resolution}, {equation.resolution}), got {tuple(initial.shape)}."
        )
    # A quotient that is whole but for rounding takes no step more.
    num_steps = max(1, math.ceil(frame_interval / step - 1e-9))
    spectrum = equation.transform(initial)
    frames = [equation.values(spectrum)]
    for number in range(1, num_frames):
        spectrum = equation.advance(spectrum, duration=frame_interval, num_steps=num_steps)
        frames.append(equation.values(spectrum))
        if not bool(frames[-1].isfinite().all()):
            raise FloatingPointError(
                f"the flow grew beyond all bounds before t = {number * frame_interval:g}; lower `step`, now {step:g}."
            )
    return torch.stack(frames, dim=-3)
