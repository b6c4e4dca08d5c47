"""HTMuon: momentum whose singular values are raised to a small power."""

from __future__ import annotations

from typing import Any, get_args

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from lightning_regimes.optim.learning_rate_adjustment import AdjustLearningRate
from lightning_regimes.optim.matrix_optimizer import MatrixOptimizer
from lightning_regimes.optim.muon import check_orthogonalization, named_dtype, orthogonalized
from lightning_regimes.optim.newton_schulz import JORDAN_COEFFICIENTS
from lightning_regimes.optim.spectral_power import Normalize, SpectralMethod, normalize_power, spectral_power


class HTMuon(MatrixOptimizer):
    r"""HTMuon for matrices and AdamW for the rest, in one optimizer; see :class:`MatrixOptimizer` for what both do.

    .. math:: W \leftarrow (1 - \eta \lambda) W - \eta \, s \, U \Sigma^p V^T, \qquad \tilde M = U \Sigma V^T

    p = 0 is Muon with an accurate polar factor, p = 1 SGD with momentum. As published, with ``normalize="none"``, the
    update grows with the p-th power of the gradient, and so do good learning rates.

    Args:
        params: parameters, pairs (name, parameter), or groups.
        lr: learning rate of matrices.
        weight_decay: decoupled decay of matrices.
        momentum: μ, decay of the running mean of the gradient.
        nesterov: whether the update looks ahead.
        power: p, between 0 and 1.
        normalize: what is made of the size of the update, see :func:`normalize_power`: ``"none"``, ``"schatten"``, or
            ``"rms"``, with which learning rates are those of Muon.
        method: how powers are computed, see :func:`spectral_power`.
        dtype: of that computation, a dtype or its name.
        interval: every how many steps the power is computed, from the first on; the others are steps of Muon.
        ns_coefficients: of the Newton–Schulz iteration of those others.
        ns_steps: of the Newton–Schulz iteration of those others.
        ns_dtype: of its products, see :class:`Muon`.
        adjust_lr_fn: how the learning rate follows from the shape, see :func:`learning_rate_scale`.
        cautious_weight_decay: whether to decay only entries that the update moves towards zero.
        normuon_beta2: decay of the mean squares of rows that NorMuon divides the update by, such as 0.95; or None.
        adamw_lr: learning rate of all else; by default ``lr``.
        adamw_betas: decay of AdamW's moments.
        adamw_eps: added to AdamW's denominator.
        adamw_weight_decay: decoupled decay of all else; by default ``weight_decay``.
        maximize: whether to go uphill.

    Raises:
        ValueError: a setting is out of range, or there is no matrix.

    References:
        HTMuon, arXiv:2603.10067.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 5e-3,
        *,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        power: float = 0.125,
        normalize: Normalize = "none",
        method: SpectralMethod = "auto",
        dtype: torch.dtype | str | None = None,
        interval: int = 1,
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
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "power": power,
            "normalize": normalize,
            "method": method,
            "dtype": dtype,
            "interval": interval,
            "num_steps": 0,
            "ns_coefficients": ns_coefficients,
            "ns_steps": ns_steps,
            "ns_dtype": ns_dtype,
            "adjust_lr_fn": adjust_lr_fn,
            "cautious_weight_decay": cautious_weight_decay,
            "normuon_beta2": normuon_beta2,
            "adamw_lr": adamw_lr,
            "adamw_betas": adamw_betas,
            "adamw_eps": adamw_eps,
            "adamw_weight_decay": adamw_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def update(self, matrices: Tensor, group: dict[str, Any]) -> Tensor:
        """Return the powers of the matrices, or between two of them the polar factors of Muon."""
        if group["num_steps"] % group["interval"]:
            return normalize_power(orthogonalized(matrices, group), matrices, 0.0, normalize=group["normalize"])
        return spectral_power(
            matrices,
            group["power"],
            method=group["method"],
            normalize=group["normalize"],
            dtype=named_dtype(group["dtype"]),
        )

    def check_settings(self, group: dict[str, Any]) -> None:
        """Raise ValueError if a setting is out of range."""
        check_orthogonalization(group)
        named_dtype(group["dtype"])
        if not 0 <= group["power"] <= 1:
            raise ValueError(f"`power` must be between 0 and 1, got {group['power']}")
        if group["interval"] < 1:
            raise ValueError(f"`interval` is at least 1, got {group['interval']}")
        for name, type_alias in (("normalize", Normalize), ("method", SpectralMethod)):
            if group[name] not in get_args(type_alias):
                raise ValueError(f"`{name}` is one of {', '.join(get_args(type_alias))}, got {group[name]!r}")
        if group["method"] == "streaming":
            raise ValueError("`method` streaming carries a basis from step to step, which this optimizer does not keep")

    def _step_matrices(self, group: dict[str, Any]) -> None:
        super()._step_matrices(group)
        group["num_steps"] += 1
