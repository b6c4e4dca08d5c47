"""What guidance has changed about a training, and how it is put into effect."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import lightning as L
from torch.optim import Optimizer

from lightning_regimes.callbacks.guided_decision import OptimizerKind
from lightning_regimes.callbacks.guided_precision import trains_in_single_precision
from lightning_regimes.optim import OptimizerFactory
from lightning_regimes.regimes import GUIDANCE_TABLE, Remedy, model_family


@runtime_checkable
class HasDifficulty(Protocol):
    """A module that can train on an easier problem, unless its ``has_difficulty`` is false."""

    def set_difficulty(self, share: float) -> None:
        """Train on the problem with this share of its difficulty, in (0, 1]."""


@runtime_checkable
class EnforcesConditions(Protocol):
    """A module whose conditions can become constraints."""

    constraints: str

    def enforce_conditions(self, how: Any) -> None:
        """Change to "soft" or "augmented_lagrangian"."""


@runtime_checkable
class RenewsTrainingData(Protocol):
    """A datamodule that can train on other or more points."""

    def renew_training_data(self, *, factor: int = 1, draw: int = 0) -> None:
        """Train on ``factor`` times as many points, those of a draw, from the next step on."""


@dataclass(frozen=True)
class GuidedSettings:
    """Where the training differs from the one that the user configured.

    Attributes:
        optimizer: which one runs.
        stage: of the curriculum, 0 when there is none.
        num_stages: of the curriculum.
        factor: times as many points as at first.
        draw: which points.
        conditions: "soft" or "augmented_lagrangian", None as configured.
        double: whether it trains in float64.
    """

    optimizer: OptimizerKind = "own"
    stage: int = 0
    num_stages: int = 0
    factor: int = 1
    draw: int = 0
    conditions: str | None = None
    double: bool = False

    @property
    def share(self) -> float:
        """Share of the problem's difficulty."""
        return min(1.0, self.stage / self.num_stages) if self.num_stages else 1.0

    def changed(self, **values: Any) -> GuidedSettings:
        """Return the settings with other values."""
        return replace(self, **values)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def available_remedies(trainer: L.Trainer, module: L.LightningModule) -> frozenset[Remedy]:
    """Return what module, datamodule and trainer offer, as far as it is of use to the module's family."""
    family = model_family(module)
    found: set[Remedy] = {Remedy.LOWER_LEARNING_RATE}
    optimizer_is_ours_to_change = (
        module.automatic_optimization and len(trainer.optimizers) == 1 and trainer.accumulate_grad_batches == 1
    )
    if optimizer_is_ours_to_change and trains_on_full_batches(trainer) and trainer.scaler is None:
        found.add(Remedy.QUASI_NEWTON)
        if _has_own_backward(module):
            found.add(Remedy.NEWTON)
        if trains_in_single_precision(trainer, module):
            found.add(Remedy.DOUBLE_PRECISION)
    eases = isinstance(module, HasDifficulty) and getattr(module, "has_difficulty", True)
    if eases and getattr(module, "curriculum", None) is None:
        found.add(Remedy.CURRICULUM)
    if isinstance(module, EnforcesConditions) and module.constraints == "soft":
        found.add(Remedy.AUGMENTED_LAGRANGIAN)
    if isinstance(_datamodule(trainer), RenewsTrainingData):
        found.add(Remedy.MORE_POINTS)
    if all("weight_decay" in group for optimizer in trainer.optimizers for group in optimizer.param_groups):
        found.add(Remedy.WEIGHT_DECAY)
    listed = {row.remedy for row in GUIDANCE_TABLE if row.helps(family)}
    return frozenset(found & listed)


def trains_on_full_batches(trainer: L.Trainer) -> bool:
    """Whether each step sees all data: the datamodule's ``full_batch`` says so, or an epoch has one batch."""
    stated = getattr(_datamodule(trainer), "full_batch", None)
    return bool(stated) if stated is not None else trainer.num_training_batches == 1


class OwnOptimizers:
    """The optimizers and schedules that the module configured, kept for the way back."""

    def __init__(self, trainer: L.Trainer) -> None:
        strategy: Any = trainer.strategy
        self._optimizers: list[Optimizer] = strategy.optimizers
        self._schedules: list[Any] = strategy.lr_scheduler_configs

    def restore(self, trainer: L.Trainer) -> None:
        """Let them run again."""
        strategy: Any = trainer.strategy
        strategy.optimizers = self._optimizers
        strategy.lr_scheduler_configs = self._schedules


def use_optimizer(trainer: L.Trainer, module: L.LightningModule, factory: OptimizerFactory) -> Optimizer:
    """Put a new optimizer, without a schedule, in the place of what runs, and return it."""
    made = factory(module)
    optimizer = made if isinstance(made, Optimizer) else made["optimizer"]
    strategy: Any = trainer.strategy
    strategy.optimizers, strategy.lr_scheduler_configs = [optimizer], []
    return optimizer


def apply_to_problem(trainer: L.Trainer, module: Any, settings: GuidedSettings) -> None:
    """Set difficulty, conditions and points."""
    if settings.conditions is not None and module.constraints != settings.conditions:
        module.enforce_conditions(settings.conditions)
    if isinstance(module, HasDifficulty) and getattr(module, "curriculum", None) is None:
        module.set_difficulty(settings.share)
    datamodule = _datamodule(trainer)
    if isinstance(datamodule, RenewsTrainingData):
        datamodule.renew_training_data(factor=settings.factor, draw=settings.draw)


def _has_own_backward(module: Any) -> bool:
    """Whether the module can give gradients their graph, which Newton steps need."""
    foreign = ("lightning.", "pytorch_lightning.", "torch.")
    return any("backward" in vars(kind) for kind in type(module).__mro__ if not kind.__module__.startswith(foreign))


def _datamodule(trainer: Any) -> Any:
    return getattr(trainer, "datamodule", None)
