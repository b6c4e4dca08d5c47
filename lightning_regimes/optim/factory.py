"""Optimizers as configuration: objects that build an optimizer for a module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_regimes.optim.compact_lbfgs import CompactLBFGS
from lightning_regimes.optim.rescaled_lbfgs import RescaledLBFGS
from lightning_regimes.optim.staged import AdamThenLBFGS

OptimizerConfiguration: TypeAlias = Optimizer | dict[str, Any]
"""What Lightning accepts from ``configure_optimizers``."""


def trainable_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that require a gradient.

    Raises:
        ValueError: there are none.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError(
            f"{type(module).__name__} has no parameter that requires a gradient, so there is nothing to optimize: "
            "unfreeze some, or skip training."
        )
    return parameters


def scheduled(optimizer: Optimizer, lr_scheduler: Callable[[Optimizer], LRScheduler] | None) -> OptimizerConfiguration:
    """Return the optimizer, with a scheduler that steps after each of its steps if there is one."""
    if lr_scheduler is None:
        return optimizer
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": lr_scheduler(optimizer), "interval": "step"}}


class OptimizerFactory(ABC):
    """A recipe for an optimizer; calling it with a module gives what ``configure_optimizers`` returns.

    A factory holds plain numbers only, so that it can be written in YAML, compared, and stored in a checkpoint.
    """

    @abstractmethod
    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return an optimizer for the parameters that require a gradient, or a dictionary with its scheduler."""


@dataclass(frozen=True, kw_only=True)
class AdamFactory(OptimizerFactory):
    """Adam, or AdamW where there is weight decay, with an optional schedule of the learning rate.

    Attributes:
        lr: learning rate.
        betas: decay of the two moments.
        eps: added to the denominator.
        weight_decay: decoupled decay (AdamW).
        lr_scheduler: class or function that builds a scheduler from the optimizer, stepped after each optimizer step.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None

    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return Adam, with its scheduler if there is one."""
        optimizer = torch.optim.AdamW(
            trainable_parameters(module), lr=self.lr, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay
        )
        return scheduled(optimizer, self.lr_scheduler)


@dataclass(frozen=True, kw_only=True)
class SGDFactory(OptimizerFactory):
    """SGD, with an optional schedule of the learning rate.

    Attributes:
        lr: learning rate.
        momentum: of the heavy ball.
        weight_decay: coupled decay.
        lr_scheduler: class or function that builds a scheduler from the optimizer, stepped after each optimizer step.
    """

    lr: float = 1e-2
    momentum: float = 0.0
    weight_decay: float = 0.0
    lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None

    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return SGD, with its scheduler if there is one."""
        optimizer = torch.optim.SGD(
            trainable_parameters(module), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay
        )
        return scheduled(optimizer, self.lr_scheduler)


@dataclass(frozen=True, kw_only=True)
class LBFGSFactory(OptimizerFactory):
    """L-BFGS with a strong-Wolfe line search (see :class:`CompactLBFGS`); it needs full batches.

    A step is ``max_iter`` iterations unless a tolerance is met. The tolerances are zero by default: in float32 torch's
    own defaults end the run while the loss still falls.

    Attributes:
        lr: first trial step of each line search.
        max_iter: iterations a step.
        max_eval: evaluations of the loss a step; ``10 · max_iter`` by default, so that iterations are what counts.
        history_size: pairs that approximate the inverse Hessian.
        tolerance_grad: largest gradient entry at which a step ends.
        tolerance_change: change of parameters or loss at which a step ends.
        line_search: "strong_wolfe", or None for fixed steps of length ``lr``.
        rescale: whether the loss is scaled so that small values do not end it (:class:`RescaledLBFGS`).
    """

    lr: float = 1.0
    max_iter: int = 20
    max_eval: int | None = None
    history_size: int = 100
    tolerance_grad: float = 0.0
    tolerance_change: float = 0.0
    line_search: str | None = "strong_wolfe"
    rescale: bool = False

    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return L-BFGS."""
        kind = RescaledLBFGS if self.rescale else CompactLBFGS
        return kind(
            trainable_parameters(module),
            lr=self.lr,
            max_iter=self.max_iter,
            max_eval=10 * self.max_iter if self.max_eval is None else self.max_eval,
            history_size=self.history_size,
            tolerance_grad=self.tolerance_grad,
            tolerance_change=self.tolerance_change,
            line_search_fn=self.line_search,
        )


@dataclass(frozen=True, kw_only=True)
class AdamThenLBFGSFactory(OptimizerFactory):
    """Adam for a number of steps, then L-BFGS, as one optimizer (see :class:`AdamThenLBFGS`).

    Attributes:
        switch_step: number of Adam steps.
        adam_lr: learning rate of Adam.
        lbfgs_lr: first trial step of each line search.
        max_iter: L-BFGS iterations a step.
        history_size: pairs that approximate the inverse Hessian.
    """

    switch_step: int = 1000
    adam_lr: float = 1e-3
    lbfgs_lr: float = 1.0
    max_iter: int = 20
    history_size: int = 100

    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return the two-stage optimizer."""
        return AdamThenLBFGS(
            trainable_parameters(module),
            switch_step=self.switch_step,
            adam_lr=self.adam_lr,
            lbfgs_lr=self.lbfgs_lr,
            max_iter=self.max_iter,
            history_size=self.history_size,
        )
