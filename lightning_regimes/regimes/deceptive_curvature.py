"""Where the curvature of the loss says the opposite of the regime."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lightning_regimes.regimes.classification import Regime

_FAILING = (Regime.UNDER_TRAINED, Regime.OVER_TRAINED)


def deceptive_sharpness(labels: npt.ArrayLike, curvature: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    r"""Return which well-trained runs are as sharp as failing ones.

    These are the well-trained runs with :math:`\lambda_1 \ge Q_{25}`, the lower quartile of :math:`\lambda_1` over
    the under- and over-trained runs of the same sweep. Quartiles are values that occur: the smallest one that at least
    that share of the runs doesn't exceed.

    Args:
        labels: regimes, any shape; -1 where there is none.
        curvature: largest eigenvalue of the Hessian, same shape; only comparable within one problem.

    References:
        Wang et al. 2026, arXiv:2605.29153 (the two notions); the quartiles are this package's.
    """
    labels, curvature = _checked(labels, curvature)
    failing = curvature[np.isin(labels, _FAILING) & np.isfinite(curvature)]
    if not failing.size:
        return np.zeros(labels.shape, dtype=bool)
    bound = np.quantile(failing, 0.25, method="inverted_cdf")
    sharp: npt.NDArray[np.bool_] = (labels == Regime.WELL_TRAINED) & (curvature >= bound)
    return sharp


def deceptive_flatness(labels: npt.ArrayLike, curvature: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    r"""Return which failing runs are as flat as well-trained ones.

    These are the under- and over-trained runs with :math:`\lambda_1 \le Q_{75}`, the upper quartile over the
    well-trained runs of the same sweep. Arguments and references as for :func:`deceptive_sharpness`.
    """
    labels, curvature = _checked(labels, curvature)
    well = curvature[(labels == Regime.WELL_TRAINED) & np.isfinite(curvature)]
    if not well.size:
        return np.zeros(labels.shape, dtype=bool)
    bound = np.quantile(well, 0.75, method="inverted_cdf")
    flat: npt.NDArray[np.bool_] = np.isin(labels, _FAILING) & (curvature <= bound)
    return flat


def _checked(labels: npt.ArrayLike, curvature: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    labels, curvature = np.asarray(labels, dtype=np.int64), np.asarray(curvature, dtype=np.float64)
    if labels.shape != curvature.shape:
        raise ValueError(f"`labels` and `curvature` need one shape, got {labels.shape} and {curvature.shape}.")
    return labels, curvature
