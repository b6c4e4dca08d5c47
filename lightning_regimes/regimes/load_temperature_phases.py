"""The phases of training over load and temperature: by sharpness, connectivity and similarity of solutions."""

from __future__ import annotations

import enum

import numpy as np
import numpy.typing as npt


class LoadTemperaturePhase(enum.IntEnum):
    """A phase of the load–temperature plane (Yang et al., NeurIPS 2021, arXiv:2107.11228, figure 1)."""

    I = 0  # noqa: E741  the name in the paper
    """Sharp, and solutions are separated by barriers."""
    II = 1
    """Sharp, and solutions are connected: training ended before a minimum."""
    III = 2
    """Flat, and solutions are separated by barriers."""
    IV_A = 3
    """Flat and connected, with solutions that represent the data in different ways."""
    IV_B = 4
    """Flat and connected, with solutions that represent the data alike: the best test error is here."""


def load_temperature_phases(
    curvature: npt.ArrayLike,
    connectivity: npt.ArrayLike,
    similarity: npt.ArrayLike | None = None,
    *,
    sharp: float | None = None,
    barrier: float = 0.05,
    similar: float = 0.9,
) -> npt.NDArray[np.int64]:
    r"""Return the phase of each cell of a sweep.

    A cell is sharp above the curvature ``sharp``, separated where the mode connectivity is below ``-barrier``, and its
    solutions are alike where their similarity is at least ``similar``. What counts as sharp depends on the problem, so
    the default is the geometric middle :math:`\sqrt{\lambda_\min \lambda_\max}` of the sweep.

    Args:
        curvature: largest eigenvalue or trace of the Hessian, any shape.
        connectivity: mean of the ends minus the loss where a path between two seeds differs most from it, in units of
            the reference loss; negative for a barrier. Same shape.
        similarity: centred kernel alignment of two seeds, in [0, 1], same shape; without it, phase IV is IV-A.
        sharp: see above.
        barrier: height that separates two solutions.
        similar: alignment from which two solutions are alike.

    Returns:
        Values of :class:`LoadTemperaturePhase`, -1 where curvature or connectivity isn't finite.

    Raises:
        ValueError: shapes differ, or ``sharp`` is not given and there is no positive curvature.
    """
    curvature = np.asarray(curvature, dtype=np.float64)
    connectivity = np.asarray(connectivity, dtype=np.float64)
    alike = np.zeros(curvature.shape) if similarity is None else np.asarray(similarity, dtype=np.float64)
    if not curvature.shape == connectivity.shape == alike.shape:
        raise ValueError(
            f"`curvature`, `connectivity` and `similarity` need one shape, got {curvature.shape}, "
            f"{connectivity.shape} and {alike.shape}."
        )
    if sharp is None:
        positive = curvature[np.isfinite(curvature) & (curvature > 0)]
        if not positive.size:
            raise ValueError("`sharp` is needed where no curvature is positive and finite.")
        sharp = float(np.sqrt(positive.min() * positive.max()))
    is_sharp, is_separated = curvature > sharp, connectivity < -barrier
    phase = np.select(
        [is_sharp & is_separated, is_sharp, is_separated, alike >= similar],
        [LoadTemperaturePhase.I, LoadTemperaturePhase.II, LoadTemperaturePhase.III, LoadTemperaturePhase.IV_B],
        LoadTemperaturePhase.IV_A,
    )
    known = np.isfinite(curvature) & np.isfinite(connectivity)
    return np.where(known, phase, -1).astype(np.int64)
