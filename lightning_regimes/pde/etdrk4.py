"""Exponential time differencing for stiff equations on a periodic interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def etdrk4(
    initial: NDArray[np.float64],
    linear: NDArray[np.float64],
    nonlinear: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *,
    duration: float,
    num_steps: int,
    num_contour_points: int = 32,
) -> NDArray[np.float64]:
    """Solve ``u_t = A u + f(u)`` with the linear part exact and a fourth-order Runge–Kutta rule for the rest.

    The coefficients ``φ_k(step · A)`` are means over a circle around each eigenvalue, which avoids their cancellation
    near zero.

    Args:
        initial: ``(…, n)`` values on a periodic grid.
        linear: ``(n // 2 + 1,)`` eigenvalues of ``A`` on the real Fourier modes, as ordered by ``numpy.fft.rfft``.
        nonlinear: ``f`` on grid values.
        duration: final time.
        num_steps: number of steps; the error is ``O(step⁴)``.
        num_contour_points: points on the upper half of the circle.

    Returns:
        ``(num_steps + 1, …, n)``: the values at each time, the initial ones first.

    References:
        A.-K. Kassam, L. N. Trefethen, "Fourth-order time-stepping for stiff PDEs", SIAM Journal on Scientific
        Computing 26, 2005, sections 2 and 3.
    """
    step = duration / num_steps
    size = initial.shape[-1]

    def transformed(spectrum: NDArray[np.complex128]) -> NDArray[np.complex128]:
        return np.fft.rfft(nonlinear(np.fft.irfft(spectrum, n=size)))

    circle = np.exp(1j * np.pi * (np.arange(num_contour_points) + 0.5) / num_contour_points)
    z = step * linear[:, None] + circle
    whole, half = np.exp(step * linear), np.exp(step * linear / 2)
    stage = step * np.mean((np.exp(z / 2) - 1) / z, axis=1).real
    first = step * np.mean((-4 - z + np.exp(z) * (4 - 3 * z + z**2)) / z**3, axis=1).real
    middle = step * np.mean((2 + z + np.exp(z) * (-2 + z)) / z**3, axis=1).real
    last = step * np.mean((-4 - 3 * z - z**2 + np.exp(z) * (4 - z)) / z**3, axis=1).real

    values = np.empty((num_steps + 1, *initial.shape))
    values[0] = initial
    spectrum = np.fft.rfft(initial)
    for index in range(num_steps):
        at_start = transformed(spectrum)
        half_step = half * spectrum + stage * at_start
        at_half = transformed(half_step)
        corrected = transformed(half * spectrum + stage * at_half)
        at_end = transformed(half * half_step + stage * (2 * corrected - at_start))
        spectrum = whole * spectrum + first * at_start + 2 * middle * (at_half + corrected) + last * at_end
        values[index + 1] = np.fft.irfft(spectrum, n=size)
    return values
