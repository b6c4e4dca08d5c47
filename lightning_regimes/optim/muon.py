"""Muon: momentum whose singular values are set to about one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lightning_regimes.optim.learning_rate_adjustment import AdjustLearningRate
from lightning_regimes.optim.matrix_optimizer import MatrixOptimizer
from lightning_regimes.optim.newton_schulz import JORDAN_COEFFICIENTS, newton_schulz


class Muon(MatrixOptimizer):
    r"""Muon for matrices and AdamW for the rest, in one optimizer; see :class:`MatrixOptimizer` for what both do.

    .. math:: W \leftarrow (1 - \eta \lambda) W - \eta \, s \, \mathrm{NS}(\tilde M) \approx
        (1 - \eta \lambda) W - \eta \, s \, U V^T, \qquad \tilde M = U \Sigma V^T

    The arguments that ``torch.optim.Muon`` has too are called as there.

    Args:
        params: parameters, pairs (name, parameter), or groups.
        lr: learning rate of matrices.
        ns_coefficients: of the Newton–Schulz iteration.
        ns_steps: of the Newton–Schulz iteration.
        ns_dtype: of its products, a dtype or its name; by default bfloat16 on an accelerator, and float32 on a CPU,
            where bfloat16 can be fifty times slower.
        normuon_beta2: decay of the mean squares of rows that NorMuon divides the update by, such as 0.95; or None.
        weight_decay, momentum, nesterov, adjust_lr_fn, cautious_weight_decay, adamw_lr, adamw_betas, adamw_eps,
            adamw_weight_decay, maximize: as for :class:`MatrixOptimizer`.

    Raises:
        ValueError: a setting is out of range, or there is no matrix.

    References:
        K. Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024,
        https://kellerjordan.github.io/posts/muon; NorMuon: arXiv:2510.05491.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = JORDAN_COEFFICIENTS,
        ns_steps: int = 5,
        ns_dtype: torch.dtype | str | None = None,
        adjust_lr_fn: AdjustLearningRate | None = "original",
        cautious_weight_decay: bool = False,
        normuon_beta2: float | None = None,
        adamw_lr: float | None = None,
        adamw_betas: tuple[float, float] = (0.9, 0.95),
        adamw_eps: float = 1e-8,
        adamw_weight_decay: float | None = None,
        maximize: bool = False,
    ) -> None:
        own_settings = {
            "ns_coefficients": ns_coefficients,
            "ns_steps": ns_steps,
            "ns_dtype": ns_dtype,
            "normuon_beta2": normuon_beta2,
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
        """Return the Newton–Schulz approximation of the polar factors."""
        return orthogonalized(matrices, group)

    def check_settings(self, group: dict[str, Any]) -> None:
        """Raise ValueError if a setting is out of range."""
        check_orthogonalization(group)


def orthogonalized(matrices: Tensor, group: dict[str, Any]) -> Tensor:
    """Return the Newton–Schulz iteration of matrices, shape (b, m, n), with the settings of a group."""
    dtype = named_dtype(group["ns_dtype"])
    if dtype is None and matrices.device.type != "cpu":
        dtype = torch.bfloat16
    return newton_schulz(matrices, steps=group["ns_steps"], coefficients=tuple(group["ns_coefficients"]), dtype=dtype)


def check_orthogonalization(group: dict[str, Any]) -> None:
    """Raise ValueError if a setting of the iteration is out of range."""
    if group["ns_steps"] < 1:
        raise ValueError(f"`ns_steps` is at least 1, got {group['ns_steps']}")
    if len(group["ns_coefficients"]) != 3:
        raise ValueError(f"`ns_coefficients` are three numbers, got {group['ns_coefficients']}")
    named_dtype(group["ns_dtype"])


def named_dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Return the dtype of a name such as ``"bfloat16"``; anything else stays.

    Raises:
        ValueError: there is no such floating-point type.
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if dtype is not None and not (isinstance(found, torch.dtype) and found.is_floating_point):
        raise ValueError(f"a dtype is a floating-point type of torch or its name, such as 'bfloat16', got {dtype!r}")
    return found
