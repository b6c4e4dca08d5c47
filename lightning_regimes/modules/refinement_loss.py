"""The loss that a refinement is trained by: errors of all its iterates, and how far it moves the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_regimes.modules.refinement import refinements
from lightning_regimes.modules.spectral_loss import (
    SpectralKind,
    check_spectral_kind,
    progressive_exponent,
    spectral_loss,
)


@dataclass(frozen=True, kw_only=True)
class RefinementLoss:
    r"""The terms of the loss of K refinements :math:`h_1, \ldots, h_K` of a field towards y.

    .. math:: L = \frac{1}{K} \sum_{k=1}^K \bigl(\operatorname{MSE}(h_k, y) + \beta_s S_{\lambda_k}(h_k, y)\bigr)
        + \beta \langle \Phi([x; y])^2 \rangle

    Attributes:
        spectral_loss: "none", "amplitude" or "complex", see :func:`spectral_loss`.
        spectral_weight: :math:`\beta_s`.
        spectral_exponents: :math:`\lambda_1` and :math:`\lambda_K`.
        fixed_point_weight: β.

    Raises:
        ValueError: a weight is negative, or there is no such spectral loss.

    References:
        Iterative Refinement Neural Operator, arXiv:2605.24041.
    """

    spectral_loss: SpectralKind
    spectral_weight: float
    spectral_exponents: tuple[float, float]
    fixed_point_weight: float

    def __post_init__(self) -> None:
        check_spectral_kind(self.spectral_loss)
        if min(self.spectral_weight, self.fixed_point_weight) < 0:
            raise ValueError(
                f"`spectral_weight` and `fixed_point_weight` aren't negative, got {self.spectral_weight} and "
                f"{self.fixed_point_weight}"
            )

    def terms(
        self,
        refinement: nn.Module,
        inputs: Tensor,
        start: Tensor,
        reference: Tensor,
        *,
        step_size: float,
        num_steps: int,
    ) -> dict[str, Tensor]:
        """Return "data" and, where their weights aren't zero, "spectral" and "fixed_point", weights included.

        Args:
            refinement: Φ, from (B, C + C′, n₁, …) to (B, C′, n₁, …).
            inputs: x, (B, C, n₁, …).
            start: :math:`h_0`, (B, C′, n₁, …).
            reference: y, (B, C′, n₁, …).
            step_size: α.
            num_steps: K.
        """
        data: list[Tensor] = []
        spectral: list[Tensor] = []
        states = refinements(refinement, inputs, start, step_size=step_size, num_steps=num_steps)
        for step, state in enumerate(states, start=1):
            data.append((state - reference).square().mean())
            if self.spectral_loss != "none" and self.spectral_weight > 0:
                first, last = self.spectral_exponents
                exponent = progressive_exponent(step, num_steps, first=first, last=last)
                spectral.append(spectral_loss(state, reference, kind=self.spectral_loss, exponent=exponent))
        terms = {"data": torch.stack(data).mean()}
        if spectral:
            terms["spectral"] = self.spectral_weight * torch.stack(spectral).mean()
        if self.fixed_point_weight > 0:
            correction = refinement(torch.cat([inputs, reference], dim=1))
            terms["fixed_point"] = self.fixed_point_weight * correction.square().mean()
        return terms
