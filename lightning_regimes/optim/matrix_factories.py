"""Muon, RMNP and HTMuon as configuration."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_regimes.optim.factory import OptimizerConfiguration, OptimizerFactory, scheduled
from lightning_regimes.optim.htmuon import HTMuon
from lightning_regimes.optim.learning_rate_adjustment import AdjustLearningRate
from lightning_regimes.optim.matrix_optimizer import MatrixOptimizer
from lightning_regimes.optim.matrix_param_groups import EXCLUDED_NAMES, NO_DECAY, matrix_param_groups
from lightning_regimes.optim.muon import Muon
from lightning_regimes.optim.rmnp import RMNP
from lightning_regimes.optim.spectral_power import Normalize, SpectralMethod


@dataclass(frozen=True, kw_only=True)
class MatrixOptimizerFactory(OptimizerFactory):
    """What the factories of all matrix optimizers have in common.

    Attributes:
        lr: learning rate of matrices.
        adamw_lr: learning rate of all else; by default ``lr``.
        weight_decay: decoupled decay of matrices.
        adamw_weight_decay: decoupled decay of all else but biases and normalizations; by default ``weight_decay``.
        momentum: decay of the running mean of the gradient.
        nesterov: whether the update looks ahead.
        adjust_lr_fn: how the learning rate follows from the shape of a matrix.
        cautious_weight_decay: whether to decay only entries that the update moves towards zero.
        adamw_betas: decay of AdamW's moments.
        adamw_eps: added to AdamW's denominator.
        exclude: parts of names of what is no matrix, see :func:`route_parameters`.
        include_embeddings: whether embeddings, and what ``exclude`` names, are matrices as well.
        no_decay: parts of names of what is not decayed in the AdamW part.
        lr_scheduler: class or function that builds a scheduler from the optimizer, stepped after each optimizer step.
    """

    lr: float = 1e-3
    adamw_lr: float | None = None
    weight_decay: float = 0.1
    adamw_weight_decay: float | None = None
    momentum: float = 0.95
    nesterov: bool = True
    adjust_lr_fn: AdjustLearningRate | None = "original"
    cautious_weight_decay: bool = False
    adamw_betas: tuple[float, float] = (0.9, 0.95)
    adamw_eps: float = 1e-8
    exclude: tuple[str, ...] = EXCLUDED_NAMES
    include_embeddings: bool = False
    no_decay: tuple[str, ...] = NO_DECAY
    lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None

    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return the optimizer, with its scheduler if there is one."""
        groups = matrix_param_groups(
            module,
            lr=self.lr,
            adamw_lr=self.adamw_lr,
            exclude=self.exclude,
            include_embeddings=self.include_embeddings,
            no_decay=self.no_decay,
        )
        settings = {
            "lr": self.lr,
            "adamw_lr": self.adamw_lr,
            "weight_decay": self.weight_decay,
            "adamw_weight_decay": self.adamw_weight_decay,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "adjust_lr_fn": self.adjust_lr_fn,
            "cautious_weight_decay": self.cautious_weight_decay,
            "adamw_betas": self.adamw_betas,
            "adamw_eps": self.adamw_eps,
        }
        return scheduled(self.optimizer(groups, settings), self.lr_scheduler)

    @abstractmethod
    def optimizer(self, groups: list[dict[str, Any]], settings: dict[str, Any]) -> MatrixOptimizer:
        """Return the optimizer of groups, with the settings that all have and its own."""


@dataclass(frozen=True, kw_only=True)
class MuonFactory(MatrixOptimizerFactory):
    """Muon for the matrices of a module (see :class:`Muon`), and AdamW for the rest.

    Attributes:
        lr: learning rate of matrices.
        ns_steps: of the Newton–Schulz iteration.
        ns_coefficients: of the Newton–Schulz iteration.
        ns_dtype: name of the dtype of its products.
        normuon_beta2: decay of the mean squares of rows by which NorMuon divides the update; None does not.
    """

    lr: float = 2e-2
    ns_steps: int = 5
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315)
    ns_dtype: str | None = None
    normuon_beta2: float | None = None

    def optimizer(self, groups: list[dict[str, Any]], settings: dict[str, Any]) -> Muon:
        """Return Muon."""
        return Muon(
            groups,
            ns_steps=self.ns_steps,
            ns_coefficients=self.ns_coefficients,
            ns_dtype=self.ns_dtype,
            normuon_beta2=self.normuon_beta2,
            **settings,
        )


@dataclass(frozen=True, kw_only=True)
class RMNPFactory(MatrixOptimizerFactory):
    """RMNP for the matrices of a module (see :class:`RMNP`), and AdamW for the rest.

    Attributes:
        lr: learning rate of matrices.
        power: 0 sets rows to norm one, 1 leaves them.
        eps: smallest norm to divide by.
    """

    lr: float = 5e-3
    power: float = 0.0
    eps: float = 1e-12

    def optimizer(self, groups: list[dict[str, Any]], settings: dict[str, Any]) -> RMNP:
        """Return RMNP."""
        return RMNP(groups, power=self.power, eps=self.eps, **settings)


@dataclass(frozen=True, kw_only=True)
class HTMuonFactory(MatrixOptimizerFactory):
    """HTMuon for the matrices of a module (see :class:`HTMuon`), and AdamW for the rest.

    Attributes:
        lr: learning rate of matrices.
        power: what singular values are raised to.
        normalize: what is made of the size of the update.
        method: how powers are computed.
        lower: the smallest relative singular value that the polynomial resolves, or ``"auto"``.
        dtype: name of the dtype of that computation.
        interval: every how many steps the power is computed; the others are steps of Muon.
        normuon_beta2: decay of the mean squares of rows by which NorMuon divides the update; None does not.
    """

    lr: float = 5e-3
    power: float = 0.125
    normalize: Normalize = "none"
    method: SpectralMethod = "auto"
    lower: float | Literal["auto"] = 1e-4
    dtype: str | None = None
    interval: int = 1
    normuon_beta2: float | None = None

    def optimizer(self, groups: list[dict[str, Any]], settings: dict[str, Any]) -> HTMuon:
        """Return HTMuon."""
        return HTMuon(
            groups,
            power=self.power,
            normalize=self.normalize,
            method=self.method,
            lower=self.lower,
            dtype=self.dtype,
            interval=self.interval,
            normuon_beta2=self.normuon_beta2,
            **settings,
        )
