"""The exponent of the tail of weight spectra as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_regimes.metrics.spectral_tail import eigenvalue_tail


class HillAlpha(Metric):
    r"""The exponent α of :math:`\rho(\lambda) \propto \lambda^{-\alpha}`, mean over the weights that were seen.

    λ are the eigenvalues of :math:`W W^T` in their larger half, see
    :func:`~lightning_regimes.metrics.power_law_tail`. Lower is a heavier tail. In float64.

    Args:
        **kwargs: for :class:`torchmetrics.Metric`.

    Raises:
        ValueError: ``update`` gets no matrix or one of a rank below 2, or ``compute`` comes before any.

    Example:
        >>> alpha = HillAlpha()
        >>> alpha(torch.diag(torch.tensor([1.0, 2.0, 4.0, 8.0])))
        tensor(2.4427, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = None
    full_state_update = False

    total: Tensor
    num_weights: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_weights", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, weight: Tensor) -> None:
        """Add a weight of two dimensions or more; that of a convolution counts as (out, everything else).

        Raises:
            ValueError: it is no matrix, not finite, or of a rank below 2.
        """
        self.total = self.total + eigenvalue_tail(weight).alpha
        self.num_weights = self.num_weights + 1

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        if not bool(self.num_weights > 0):
            raise ValueError("the mean exponent needs a weight: call `update` first.")
        return self.total / self.num_weights
