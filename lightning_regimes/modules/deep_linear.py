"""Deep linear networks as a LightningModule that says what its Hessian spectrum should be."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from lightning_regimes.networks import DeepLinear as Network
from lightning_regimes.networks.deep_linear import Activation
from lightning_regimes.optim import OptimizerFactory, SGDFactory
from lightning_regimes.theory import deep_linear_spectrum

Batch = tuple[Tensor, Tensor]


class DeepLinear(L.LightningModule):
    r"""A product of weight matrices trained by :math:`\frac12 \|F(X) - Y\|_F^2`.

    Aligned with its teacher (:class:`~lightning_regimes.datamodules.LinearTeacher`) on whitened inputs, its Hessian is
    known in closed form at every step: :meth:`theoretical_eigenvalues`, which ``HessianSpectrum`` records beside what
    it measures. Logged is ``train/loss``.

    Args:
        depth: number L of weight matrices.
        width: of the layers between.
        input_size: :math:`d_0`.
        output_size: :math:`d_L`.
        activation: ``"tanh"`` between the layers, for comparison; None for a linear network.
        aligned: start from balanced layers in the singular vectors of the datamodule's ``target``. Otherwise from
            Gaussian weights, for which nothing is known.
        seed: of the initial weights.
        optimizer: by default SGD with rate 0.01 and momentum 0.9, as in the published code.

    Raises:
        ValueError: a size below 1, or ``aligned`` without a datamodule that has a ``target``.

    References:
        Deng, Liao, Ouyang, Pang, Yang, Depth, Not Data: An Analysis of Hessian Spectral Bifurcation, arXiv:2602.00545.
    """

    target: Tensor

    def __init__(
        self,
        depth: int = 3,
        *,
        width: int = 32,
        input_size: int = 16,
        output_size: int = 10,
        activation: Activation | None = None,
        aligned: bool = True,
        seed: int = 12138,
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"`depth` is at least 1, got {depth}")
        self.aligned = aligned
        self._is_whitened = False
        self.network = Network((input_size, *[width] * (depth - 1), output_size), activation=activation, seed=seed)
        self.optimizer_factory = optimizer or SGDFactory(lr=0.01, momentum=0.9)
        self.register_buffer("target", torch.full((output_size, input_size), torch.nan))

    def setup(self, stage: str) -> None:
        """Take the teacher's matrix, and start from layers that are aligned with it."""
        datamodule = getattr(self.trainer, "datamodule", None)
        target = getattr(datamodule, "target", None)
        self._is_whitened = bool(getattr(datamodule, "is_whitened", False))
        if target is None:
            if self.aligned:
                raise ValueError(
                    "`aligned` needs a datamodule with a matrix `target`, such as LinearTeacher; use `aligned=False`"
                )
            return
        if target.shape != self.target.shape:
            raise ValueError(
                f"the datamodule's `target` has shape {tuple(target.shape)}, and the network maps to "
                f"{tuple(self.target.shape)}; set `input_size` and `output_size`"
            )
        is_new = bool(self.target.isnan().any())
        self.target.copy_(target)
        if stage == "fit" and self.aligned and is_new:
            self.network.align(self.target)

    @property
    def depth(self) -> int:
        """Number of layers, to which the ratio of dominant to bulk eigenvalues tends."""
        return self.network.depth

    @property
    def rank(self) -> int | None:
        """Rank of the target, None without one."""
        return None if self.target.isnan().any() else int(torch.linalg.matrix_rank(self.target.float()))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs, (N, output_size)."""
        outputs: Tensor = self.network(inputs)
        return outputs

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return and log half the sum of squared errors."""
        loss = 0.5 * (self(batch[0]) - batch[1]).square().sum()
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Return what the optimizer factory makes of this module."""
        return self.optimizer_factory(self)

    def trivial_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the zero network."""
        return 0.5 * batch[1].square().sum()

    def reference_error(self) -> float | None:
        r"""Return :math:`\|W^L \cdots W^1 - T\|_F / \|T\|_F`; None where there is no such product or target."""
        if self.network.activation is not None or self.rank is None:
            return None
        return float((self.network.product().detach() - self.target).norm() / self.target.norm())

    def theoretical_eigenvalues(self) -> Tensor | None:
        """Return all eigenvalues of the Hessian at the present weights, descending, float64; None if not known."""
        if self.rank is None or not self._is_whitened:
            return None
        modes = self.network.modes(self.target)
        return None if modes is None else deep_linear_spectrum(self.network.dims, *modes).eigenvalues

    def expected_multiplicities(self) -> tuple[int, int] | None:
        r"""Return how many dominant and bulk eigenvalues there are, :math:`r^2` and :math:`(d_0 + d_L - 2r)\,r`."""
        rank = self.rank
        if rank is None:
            return None
        inputs, outputs = self.network.dims[0], self.network.dims[-1]
        return rank**2, (inputs + outputs - 2 * rank) * rank
