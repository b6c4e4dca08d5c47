"""Strang splitting for reaction–diffusion on a periodic interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray


def strang(
    initial: NDArray[np.float64],
    diffusion: NDArray[np.float64],
    reaction: Callable[[NDArray[np.float64], float], NDArray[np.float64]],
    *,
    duration: float,
    num_steps: int,
) -> NDArray[np.float64]:
    """Solve ``u_t = A u + f(u)`` by half a reaction, a diffusion and half a reaction step; the error is ``O(step²)``.

    Args:
        initial: ``(n,)`` values on a periodic grid.
        diffusion: ``(n // 2 + 1,)`` eigenvalues of ``A`` on the real Fourier modes, as ordered by ``numpy.fft.rfft``.
        reaction: exact flow of ``u_t = f(u)``: values and a time to values.
        duration: final time.
        num_steps: number of steps.

    Returns:
        ``(num_steps + 1, n)``: the values at each time, the initial ones first.

    References:
        G. Strang, "On the construction and comparison of difference schemes", SIAM Journal on Numerical Analysis 5,
        1968.
    """
    step = duration / num_steps
    decay = np.exp(step * diffusion)
    values = np.empty((num_steps + 1, initial.size))
    values[0] = initial
    for index in range(num_steps):
        reacted = reaction(values[index], step / 2)
        diffused = np.fft.irfft(decay * np.fft.rfft(reacted), n=initial.size)
        values[index + 1] = reaction(diffused, step / 2)
    return values
