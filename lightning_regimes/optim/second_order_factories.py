"""NNCG and sharpness-aware minimization as configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_regimes.optim.factory import (
    OptimizerConfiguration,
    OptimizerFactory,
    SGDFactory,
    scheduled,
    trainable_parameters,
)
from lightning_regimes.optim.nncg import NNCG
from lightning_regimes.optim.sharpness_aware import SharpnessAware


@dataclass(frozen=True, kw_only=True)
class NNCGFactory(OptimizerFactory):
    """Nyström Newton-CG (see :class:`NNCG`); it needs full batches, and gradients with a graph.

    Attributes:
        lr: first trial step of each line search.
        rank: columns of the preconditioner.
        mu: damping.
        update_frequency: every how many steps the preconditioner is made.
        cg_tolerance: relative residual at which the conjugate gradients end.
        cg_max_iterations: products that the conjugate gradients may spend a step.
        line_search_decrease: part of the predicted decrease that is asked for.
        line_search_shrinkage: what a rejected step is multiplied by.
        line_search_max_trials: trials before a step is given up.
        seed: of the random subspaces.
    """

    lr: float = 1.0
    rank: int = 60
    mu: float = 1e-2
    update_frequency: int = 20
    cg_tolerance: float = 1e-6
    cg_max_iterations: int = 200
    line_search_decrease: float = 0.1
    line_search_shrinkage: float = 0.5
    line_search_max_trials: int = 30
    seed: int = 0

    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return NNCG."""
        return NNCG(
            trainable_parameters(module),
            lr=self.lr,
            rank=self.rank,
            mu=self.mu,
            update_frequency=self.update_frequency,
            cg_tolerance=self.cg_tolerance,
            cg_max_iterations=self.cg_max_iterations,
            line_search_decrease=self.line_search_decrease,
            line_search_shrinkage=self.line_search_shrinkage,
            line_search_max_trials=self.line_search_max_trials,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class SharpnessAwareFactory(OptimizerFactory):
    """Any optimizer with the gradient of the worst loss nearby (see :class:`SharpnessAware`).

    Attributes:
        base: makes the optimizer that is wrapped, without a schedule.
        rho: radius of the neighbourhood.
        adaptive: whether the neighbourhood scales with the weights.
        lr_scheduler: class or function that builds a scheduler from the optimizer, stepped after each optimizer step.
    """

    base: OptimizerFactory = field(default_factory=SGDFactory)
    rho: float = 0.05
    adaptive: bool = False
    lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None

    def __call__(self, module: nn.Module) -> OptimizerConfiguration:
        """Return the wrapped optimizer, with its scheduler if there is one.

        Raises:
            ValueError: ``base`` brings a scheduler.
        """
        base = self.base(module)
        if not isinstance(base, Optimizer):
            raise ValueError(
                f"`base` must have no `lr_scheduler`, got {self.base!r}: give it to SharpnessAwareFactory instead"
            )
        return scheduled(SharpnessAware(base, rho=self.rho, adaptive=self.adaptive), self.lr_scheduler)
