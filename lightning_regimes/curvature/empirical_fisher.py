"""The second moment of the gradients of single samples."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from lightning_regimes.curvature.gauss_newton import GaussNewtonOperator
from lightning_regimes.probe import LossProbe


class EmpiricalFisherOperator:
    r"""The second moment of the gradients :math:`g_i` of the samples' losses, also called empirical Fisher matrix.

    .. math:: F = \sum_b w_b \frac{1}{N_b} \sum_{i \in b} g_i g_i^T

    with :math:`w_b` the probe's weights, so that F is the mean over all samples. It equals the Fisher information, or
    the Hessian, only under strong assumptions; what it measures is how much the gradient varies with the sample, about
    a mean that it contains.

    Computed as a Gauss–Newton matrix: that of :math:`\frac{1}{2 N_b} \sum_i \ell_i^2` as a function of the losses. No
    gradient of a single sample is ever formed.

    Args:
        probe: the point, the batches and their weights; its own loss is not used.
        sample_losses: ``sample_losses(module, batch)`` returning the loss of each sample, shape (N_b,), not averaged.
            A sample's loss must depend on no other sample, as it does through the statistics of a batch.

    Raises:
        TypeError: ``sample_losses`` is not callable or returns no real tensor.
        ValueError: it returns no vector.
        ProbeError: as for :class:`GaussNewtonOperator`.

    References:
        F. Kunstner, L. Balles, P. Hennig, Limitations of the empirical Fisher approximation for natural gradient
        descent, arXiv:1905.12558.
    """

    def __init__(self, probe: LossProbe, *, sample_losses: Callable[[Any, Any], Tensor]) -> None:
        if not callable(sample_losses):
            raise TypeError(f"`sample_losses` is a callable, got {type(sample_losses).__name__}")

        def checked(module: Any, batch: Any) -> Tensor:
            losses = sample_losses(module, batch)
            if isinstance(losses, Tensor) and losses.ndim != 1:
                raise ValueError(
                    "`sample_losses` returns one number a sample, a vector; use `reduction='none'`, and average over "
                    f"what belongs to one sample; got shape {tuple(losses.shape)}"
                )
            return losses

        self._gauss_newton = GaussNewtonOperator(
            probe, outputs=checked, loss_of_outputs=lambda losses, batch: losses.square().mean() / 2
        )

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)`` with n the number of real parameters."""
        return self._gauss_newton.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the probe."""
        return self._gauss_newton.dtype

    @property
    def device(self) -> torch.device:
        """Device of the probe."""
        return self._gauss_newton.device

    @property
    def num_matvecs(self) -> int:
        """Number of products with a vector so far."""
        return self._gauss_newton.num_matvecs

    def isolated(self) -> AbstractContextManager[None]:
        """Hold the module at the probe's parameters over several products, each of which is then cheaper."""
        return self._gauss_newton.isolated()

    def start_vector(self) -> Tensor | None:
        """Return the mean of the gradients weighted by their losses, in the range of F; ``None`` once closed."""
        return self._gauss_newton.start_vector()

    def close(self) -> None:
        """Let go of the graphs; the operator cannot be applied any more."""
        self._gauss_newton.close()

    def __enter__(self) -> EmpiricalFisherOperator:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return F v for a vector (n,), or F V column by column for a matrix (n, m).

        Raises:
            TypeError: the tensor has another dtype than the operator.
            ValueError: it has another shape or is on another device, or the operator is closed.
            ProbeError: the product is not finite, or the losses cannot be differentiated twice.
        """
        return self._gauss_newton @ other
