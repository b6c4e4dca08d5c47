"""RMNP: momentum whose rows are set to norm one."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor
from torch.optim.optimizer import ParamsT

from lightning_regimes.optim.learning_rate_adjustment import AdjustLearningRate
from lightning_regimes.optim.matrix_optimizer import MatrixOptimizer
from lightning_regimes.optim.row_normalize import row_factors, row_normalize
from lightning_regimes.optim.sharded_matrix import holds_whole_rows, own_part


class RMNP(MatrixOptimizer):
    r"""RMNP for matrices and AdamW for the rest, in one optimizer; see :class:`MatrixOptimizer` for what both do.

    .. math:: w_i \leftarrow (1 - \eta \lambda) w_i
        - \eta \, s \, \frac{\tilde m_i}{\max(\|\tilde m_i\|, \epsilon)^{1-p}}

    for each row, what one output neuron reads. It costs a few passes over the matrix where Muon multiplies matrices,
    and no communication where rows are sharded (FSDP2). Rows know nothing of each other, so that ``num_heads`` and
    ``split_sizes`` of a group change nothing.

    Args:
        params: parameters, pairs (name, parameter), or groups.
        lr: learning rate of matrices.
        momentum: μ. Classical momentum is 1/(1-μ) times this running mean, which the norm takes away again.
        power: p, between 0 and 1: 0 is RMNP, 1 is SGD with momentum, and in between long rows stay longer.
        eps: smallest norm to divide by, so that a row of zeros stays.
        adjust_lr_fn: as for :class:`MatrixOptimizer`, but that ``"match_rms_adamw"`` is 0.2 √n, as rows of norm one
            have another root mean square than a polar factor.
        weight_decay, nesterov, cautious_weight_decay, adamw_lr, adamw_betas, adamw_eps, adamw_weight_decay, maximize:
            as for :class:`MatrixOptimizer`.

    Raises:
        ValueError: a setting is out of range, or there is no matrix.

    References:
        RMNP: row-momentum normalized preconditioning, ICML 2026, arXiv:2603.20527.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 5e-3,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        power: float = 0.0,
        eps: float = 1e-12,
        adjust_lr_fn: AdjustLearningRate | None = "original",
        cautious_weight_decay: bool = False,
        adamw_lr: float | None = None,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-8,
        adamw_weight_decay: float | None = None,
        maximize: bool = False,
    ) -> None:
        own_settings = {
            "power": power,
            "eps": eps,
        }
        super().__init__(
            params,
            own_settings,
            lr=lr,
            weight_decay=weight_decay,
            momentum=momentum,
            nesterov=nesterov,
            adjust_lr_fn=adjust_lr_fn,
            cautious_weight_decay=cautious_weight_decay,
            adamw_lr=adamw_lr,
            adamw_betas=adamw_betas,
            adamw_eps=adamw_eps,
            adamw_weight_decay=adamw_weight_decay,
            maximize=maximize,
        )

    def update(self, matrices: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the matrices with normalized rows."""
        return row_normalize(matrices, power=group["power"], eps=group["eps"])

    def learning_rate_scale(self, group: dict[str, Any], rows: int, columns: int) -> float:
        """Return s(m, n); matched to AdamW, that which gives rows of norm one a root mean square of 0.2."""
        if group["adjust_lr_fn"] == "match_rms_adamw":
            return 0.2 * math.sqrt(columns)
        return super().learning_rate_scale(group, rows, columns)

    def check_settings(self, group: dict[str, Any]) -> None:
        """Raise ValueError if a setting is out of range."""
        if not group["eps"] > 0:
            raise ValueError(f"`eps` must be positive, got {group['eps']}")

    def _step_matrices(self, group: dict[str, Any]) -> None:
        # One matrix after the other, and the factors of the rows are multiplied in while the parameter is written: the
        # update itself is never in memory.
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            momentum = self._momentum(parameter, group)
            scale = self.learning_rate_scale(group, parameter.shape[0], parameter.shape[1:].numel())
            if holds_whole_rows(parameter):
                self._apply_rows(own_part(parameter), own_part(momentum), scale, group)
            else:
                self._apply_rows(parameter, momentum, scale, group)

    def _apply_rows(self, parameter: Tensor, momentum: Tensor, scale: float, group: dict[str, Any]) -> None:
        self._decay(parameter, momentum, group)
        factors = row_factors(momentum.flatten(1), power=group["power"], eps=group["eps"])
        if parameter.ndim > 2:
            factors = factors.view(-1, *[1] * (parameter.ndim - 1))
        step = (group["lr"] if group["maximize"] else -group["lr"]) * scale
        if isinstance(step, Tensor):
            parameter.addcmul_(momentum, factors.mul_(step))
        else:
            # On small matrices what counts is the number of operations, so that none is spent on a plain number.
            parameter.addcmul_(momentum, factors, value=step)
