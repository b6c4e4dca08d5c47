"""SGD on a quadratic with noise in its gradient: the setting in which the alignment of SGD is understood."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from lightning_regimes.optim import OptimizerFactory, SGDFactory
from lightning_regimes.theory import quadratic_sgd, steady_alignment


class NoisyQuadratic(L.LightningModule):
    r"""The loss :math:`\frac12 x^T A x + \xi^T x` of a diagonal A and the noise ξ of a batch.

    Its gradient is :math:`A x + \xi`. The k dominant eigenvalues of A lie between 100 and 80, the others between c and
    c/7 with :math:`c = 80 / (m + 0.1)`, so that the gap :math:`\lambda_k / \lambda_{k+1}` is about m.
    ``GradientAlignment`` takes the Hessian and the full gradient from the loss without noise (``diagnostic_loss``), the
    gradients of batches from that with noise (``stochastic_loss``), and records what theory says
    (``theoretical_alignment``). Logged is ``train/loss``, without noise.

    Args:
        gap: m.
        size: number of parameters.
        num_dominant: k.
        standard_deviation: of each entry of ξ; what the theory is told, the batches come from
            :class:`~lightning_regimes.datamodules.GaussianNoise`.
        seed: of the starting point, normal of variance 1.
        optimizer: by default SGD with rate 0.003.

    Raises:
        ValueError: a size or the gap is out of range.

    References:
        Deng, Liao, Ouyang, Pang, Song, Yang, Suspicious Alignment of SGD: A Fine-Grained Step Size Condition Analysis,
        arXiv:2601.11789; spectrum, noise and step size are those of its experiments.
    """

    eigenvalues: Tensor
    start: Tensor

    def __init__(
        self,
        gap: float = 10.0,
        *,
        size: int = 500,
        num_dominant: int = 50,
        standard_deviation: float = 0.5,
        seed: int = 42,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        super().__init__()
        if not gap > 1:
            raise ValueError(f"`gap` is above 1, got {gap}")
        if not 1 <= num_dominant < size:
            raise ValueError(f"`num_dominant` lies between 1 and `size` - 1 = {size - 1}, got {num_dominant}")
        self.num_dominant = num_dominant
        self.variance = standard_deviation**2
        self.optimizer_factory = optimizer or SGDFactory(lr=0.003)
        bulk = torch.linspace(1.0, 1 / 7, size - num_dominant) * 80 / (gap + 0.1)
        self.register_buffer("eigenvalues", torch.cat([torch.linspace(100.0, 80.0, num_dominant), bulk]))
        self.x = nn.Parameter(torch.randn(size, generator=torch.Generator().manual_seed(seed)))
        self.register_buffer("start", self.x.detach().clone())

    def diagnostic_loss(self, batch: Tensor) -> Tensor:
        """Return the loss without noise."""
        return 0.5 * (self.eigenvalues * self.x.square()).sum()

    def stochastic_loss(self, batch: Tensor) -> Tensor:
        """Return the loss with the mean noise of a batch, (N, size)."""
        return self.diagnostic_loss(batch) + (batch.mean(0) * self.x).sum()

    def training_step(self, batch: Tensor, batch_idx: int = 0) -> Tensor:
        """Return the loss with noise, and log it without."""
        self.log("train/loss", self.diagnostic_loss(batch).detach())
        return self.stochastic_loss(batch)

    def configure_optimizers(self) -> Any:
        """Return what the optimizer factory makes of this module."""
        return self.optimizer_factory(self)

    def trivial_loss(self, batch: Tensor) -> Tensor:
        """Return the loss at the start."""
        return 0.5 * (self.eigenvalues * self.start.square()).sum()

    def heldout_loss(self) -> float:
        """Return the loss without noise, which is the expected one."""
        return self.diagnostic_loss(self.x).item()

    def theoretical_alignment(self, step_size: float) -> dict[str, float]:
        """Return the steady alignment of a constant step size, and the critical one at the present point."""
        values = self.eigenvalues.double().cpu()
        options = {"num_dominant": self.num_dominant}
        state = quadratic_sgd(values, self.x.detach().double().cpu(), self.variance, **options)
        found = {"critical_step_size": state.critical_step_size}
        if step_size < 2 / float(values[0]):
            found["theta"] = steady_alignment(values, self.variance, step_size=step_size, **options)
        return found
