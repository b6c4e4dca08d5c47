"""Solutions that are known on a fine grid, evaluated anywhere in it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from torch import Tensor


class PeriodicReference:
    """A solution on a periodic interval and in time, interpolated by splines of degree 5.

    Args:
        values: ``(num_times, n)`` on ``n`` equidistant places that exclude the upper end, at equidistant times that
            include both ends.
        interval: both ends of the place coordinate.
        duration: last time; the first is 0.
    """

    def __init__(self, values: NDArray[np.float64], *, interval: tuple[float, float], duration: float) -> None:
        num_times, size = values.shape
        closed = np.concatenate([values, values[:, :1]], axis=1)
        self._spline = RectBivariateSpline(
            np.linspace(*interval, size + 1), np.linspace(0.0, duration, num_times), closed.T, kx=5, ky=5, s=0
        )

    def __call__(self, points: Tensor, *, order: tuple[int, int] = (0, 0)) -> Tensor:
        """Return values, or derivatives of the given orders in place and time, at points ``(N, 2)`` as ``(N, 1)``.

        The result carries no gradient.
        """
        at = points.detach().cpu().double().numpy()
        found = self._spline.ev(at[:, 0], at[:, 1], dx=order[0], dy=order[1])
        return torch.from_numpy(found).to(device=points.device, dtype=points.dtype).unsqueeze(1)
