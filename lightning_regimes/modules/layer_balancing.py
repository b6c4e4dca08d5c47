"""A linear network of two layers whose loss is known for every split of the learning rate."""

from __future__ import annotations

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from lightning_regimes.optim import LayerBalancedLR, layerwise_lr_groups
from lightning_regimes.theory import relative_angles, two_layer_loss

Batch = tuple[Tensor, Tensor]


class LayerBalancing(L.LightningModule):
    r"""The network :math:`x W_1 W_2 / h` on white inputs, trained with more of the learning rate in one layer at first.

    The target is :math:`Q / \sqrt h` with Q orthogonal, the matrices start orthogonal, and the loss is half the squared
    error, so that theory knows it at each step (:func:`~lightning_regimes.theory.two_layer_loss`): it is logged as
    ``theory/loss`` beside ``train/loss``, and ``LayerSplit`` draws it over the splits. The data are those of
    :class:`~lightning_regimes.datamodules.LinearTeacher` of full rank.

    Args:
        width: h.
        scaled_sum: σ; the sum of the two learning rates is :math:`\sigma h^{3/2}`, of which more than about
            :math:`2 h^{3/2}` makes the minimum unstable.
        first_share: share of the first layer in it for the first steps; 0.5 for equal rates throughout.
        balance_steps: number of these steps; equal rates follow.
        seed: of the initial weights.

    Raises:
        ValueError: an argument is out of range, or the datamodule has no orthogonal ``target`` of this width.

    References:
        Layer balancing, arXiv:2606.00340.
    """

    target: Tensor
    angles: Tensor

    def __init__(
        self,
        width: int = 100,
        *,
        scaled_sum: float = 1.5,
        first_share: float = 0.02,
        balance_steps: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if width < 2:
            raise ValueError(f"`width` is at least 2, got {width}")
        if not scaled_sum > 0:
            raise ValueError(f"`scaled_sum` is positive, got {scaled_sum}")
        if not 0 <= first_share <= 1:
            raise ValueError(f"`first_share` is between 0 and 1, got {first_share}")
        self.width = width
        self.first_share, self.balance_steps = first_share, balance_steps
        #: Mean of the two learning rates.
        self.learning_rate = scaled_sum * width**1.5 / 2
        generator = torch.Generator().manual_seed(seed)
        self.first, self.second = (nn.Parameter(_orthogonal(width, generator)) for _ in range(2))
        self.register_buffer("target", torch.full((width, width), torch.nan))
        self.register_buffer("angles", torch.full((width,), torch.nan, dtype=torch.float64))

    def setup(self, stage: str) -> None:
        """Take the teacher's matrix, and compare it with the initial weights."""
        target = getattr(getattr(self.trainer, "datamodule", None), "target", None)
        if target is None or target.shape != self.target.shape:
            raise ValueError(
                f"the datamodule needs a `target` of shape {tuple(self.target.shape)}, such as that of LinearTeacher "
                f"with both sizes and the rank {self.width}"
            )
        if self.angles.isnan().any():
            self.target.copy_(target)
            # Rows of outputs are x Tᵀ.
            self.angles.copy_(relative_angles((self.first @ self.second).detach(), target.T))

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the outputs, (N, h), in the scale of the datamodule's targets."""
        outputs: Tensor = inputs @ self.first @ self.second / math.sqrt(self.width)
        return outputs

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return half the squared error, and log it beside that of theory."""
        loss = (self(batch[0]) - batch[1]).square().sum() / (2 * self.width)
        self.log("train/loss", loss, prog_bar=True)
        self.log("theory/loss", self.theoretical_losses(self.global_step)[-1])
        return loss

    def configure_optimizers(self) -> Any:
        """Return SGD with a rate for each layer, and their schedule."""
        multipliers = (2 * self.first_share, 2 * (1 - self.first_share))
        optimizer = torch.optim.SGD(layerwise_lr_groups(self, multipliers), lr=self.learning_rate)
        scheduler = LayerBalancedLR(optimizer, balance_steps=self.balance_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def trivial_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the zero network."""
        return batch[1].square().sum() / (2 * self.width)

    def reference_error(self) -> float:
        r"""Return :math:`\|W_1 W_2 / \sqrt h - Q\|_F / \|Q\|_F`."""
        product = (self.first @ self.second).detach() / math.sqrt(self.width)
        return float((product - self.target.T).norm() / self.target.norm())

    def theoretical_losses(self, steps: int) -> Tensor:
        """Return the loss before the first and after each of so many steps of this schedule, shape (steps + 1,)."""
        shares = torch.full((steps,), 0.5, dtype=torch.float64)
        shares[: self.balance_steps] = self.first_share
        rates = torch.stack([shares, 1 - shares], dim=-1) * 2 * self.learning_rate
        return two_layer_loss(rates, width=self.width, angles=self.angles.cpu()) / 2

    def theoretical_split_losses(self, shares: Tensor, learning_rate: float, steps: int) -> Tensor | None:
        """Return the loss after steps from the initial weights with each split, shape (k,); None at other weights."""
        if self.global_step > 0:
            return None
        rates = (shares * 2 * learning_rate)[:, None].expand(-1, steps, -1)
        return two_layer_loss(rates, width=self.width, angles=self.angles.cpu())[:, -1] / 2


def _orthogonal(width: int, generator: torch.Generator) -> Tensor:
    """Return a Haar-orthogonal matrix."""
    q, r = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    haar: Tensor = (q * r.diagonal().sign()).to(torch.get_default_dtype())
    return haar
