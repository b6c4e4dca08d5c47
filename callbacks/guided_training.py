"""A training that runs under other settings than its user configured."""

from __future__ import annotations

from typing import Any

import lightning as L

from lightning_regimes.callbacks.guarded_step import GuardedStep
from lightning_regimes.callbacks.guided_precision import set_precision
from lightning_regimes.callbacks.guided_settings import GuidedSettings, OwnOptimizers, apply_to_problem, use_optimizer
from lightning_regimes.optim import OptimizerFactory

# A product with the Hessian costs about as much as two gradients.
_GRADIENTS_PER_PRODUCT = 2


class GuidedTraining:
    """Puts settings into effect, and counts what Newton steps cost under them.

    Args:
        quasi_newton: makes the optimizer of ``settings.optimizer == "quasi_newton"``.
        newton: makes that of ``"newton"``.

    Attributes:
        settings: those in effect.
        product_gradients: evaluations of the gradient that Hessian-vector products stood for so far.
    """

    def __init__(self, quasi_newton: OptimizerFactory, newton: OptimizerFactory) -> None:
        self._factories = {"quasi_newton": quasi_newton, "newton": newton}
        self.settings = GuidedSettings()
        self.product_gradients = 0
        self._products_seen = 0
        self._own: OwnOptimizers | None = None
        self._guard: GuardedStep | None = None

    @property
    def failure(self) -> str | None:
        """Why the last step was given up; None where it was taken."""
        return None if self._guard is None else self._guard.failure

    @property
    def in_curriculum(self) -> bool:
        """Whether the problem is easier than, or for the first time as hard as, the one that was asked for."""
        return 0 < self.settings.num_stages >= self.settings.stage

    def begin(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Keep the module's own optimizers; put the settings of an interrupted training into effect."""
        self._own = OwnOptimizers(trainer)
        if self.settings != GuidedSettings():
            apply_to_problem(trainer, module, self.settings)
            if self.settings.double:
                set_precision(trainer, module, double=True)
            self._install_optimizer(trainer, module)

    def change(
        self, trainer: L.Trainer, module: L.LightningModule, settings: GuidedSettings, *, optimizer_anew: bool
    ) -> bool:
        """Put settings into effect; return whether batches that were kept from before are out of date.

        Args:
            trainer: whose optimizers and precision change.
            module: whose problem changes.
            settings: the new ones.
            optimizer_anew: whether an optimizer that stays forgets its state, which describes the loss of before.
        """
        before, self.settings = self.settings, settings
        apply_to_problem(trainer, module, settings)
        other_precision = settings.double != before.double
        if other_precision:
            set_precision(trainer, module, double=settings.double)
        other_optimizer = settings.optimizer != before.optimizer
        if other_optimizer:
            self._install_optimizer(trainer, module)
        elif optimizer_anew:
            for optimizer in trainer.optimizers:
                optimizer.state.clear()
        if other_optimizer or optimizer_anew:
            # The count of products is part of the state that has gone.
            self._products_seen = 0
        return other_precision or (settings.factor, settings.draw) != (before.factor, before.draw)

    def end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Hand the module over with the problem that was asked for."""
        if self.in_curriculum:
            self.settings = self.settings.changed(stage=self.settings.num_stages + 1)
            apply_to_problem(trainer, module, self.settings)

    def count_products(self, trainer: L.Trainer) -> None:
        """Count the Hessian-vector products since the last call as gradients."""
        for products in _products(trainer):
            self.product_gradients += _GRADIENTS_PER_PRODUCT * max(products - self._products_seen, 0)
            self._products_seen = products

    def forget_products(self, trainer: L.Trainer) -> None:
        """Take the counts of optimizers whose state was put back as counted."""
        self._products_seen = next(iter(_products(trainer)), 0)

    def state_dict(self) -> dict[str, Any]:
        """Return settings and counts in plain values."""
        counts = {"product_gradients": self.product_gradients, "products_seen": self._products_seen}
        return {"settings": self.settings.state_dict(), **counts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take settings and counts; :meth:`begin` puts them into effect."""
        self.settings = GuidedSettings(**state_dict["settings"])
        self.product_gradients = state_dict["product_gradients"]
        self._products_seen = state_dict["products_seen"]

    def _install_optimizer(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self._guard = None
        if self.settings.optimizer != "own":
            self._guard = GuardedStep(use_optimizer(trainer, module, self._factories[self.settings.optimizer]))
        elif self._own is not None:
            self._own.restore(trainer)


def _products(trainer: L.Trainer) -> list[int]:
    counts = (getattr(optimizer, "num_products", None) for optimizer in trainer.optimizers)
    return [count for count in counts if count is not None]
