"""A schedule that spreads the learning rate unequally over the layers at first, and equally afterwards."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lightning_regimes.optim.layer_groups import require_multipliers

Ramp: TypeAlias = Literal["step", "linear", "cosine"]
"""How the multipliers give way."""


class LayerBalancedLR(LRScheduler):
    r"""Learning rates that favour some layers for the first steps, and whose sum stays what it would be otherwise.

    .. math:: \eta_\ell(t) = \eta_\ell^0(t) \bigl[1 + (r_\ell - 1) \varphi(t)\bigr], \qquad
        \sum_\ell \eta_\ell(t) = \sum_\ell \eta_\ell^0(t)

    with :math:`\eta^0` the rates that the groups have without this schedule, and φ = 1 for the first steps and 0 after
    the ramp. The multipliers count in proportion: r is what they are times the number for which the sum is conserved,
    so that ``(1, 0)`` gives one of two equal layers twice its rate and the other one nothing. For a two-layer linear
    network one step does best with a single layer (:func:`~lightning_regimes.theory.optimal_split`); for any other,
    :func:`probe_layer_split` measures it. Step it after each step of the optimizer.

    Args:
        optimizer: with a group for each layer.
        multipliers: one for each group, or None for those that stay alone; default the key ``lr_multiplier`` of the
            groups, which :func:`layerwise_lr_groups` sets.
        balance_steps: number of steps with the multipliers.
        ramp: ``"step"`` ends them at once; ``"linear"`` and ``"cosine"`` let them go over ``ramp_steps`` more steps.
        ramp_steps: by default ``balance_steps``.
        after: multipliers when the ramp has ended, in proportion; default the same for all.
        schedule: builds the scheduler that :math:`\eta^0` follows, such as
            ``lambda optimizer: CosineWithWarmup(optimizer, total_steps=1000)``; this one steps it.

    Raises:
        ValueError: the multipliers do not fit the groups, or a number is out of range.

    References:
        Layer balancing, arXiv:2606.00340.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        multipliers: Sequence[float | None] | None = None,
        *,
        balance_steps: int = 1,
        ramp: Ramp = "step",
        ramp_steps: int | None = None,
        after: Sequence[float | None] | None = None,
        schedule: Callable[[Optimizer], LRScheduler] | None = None,
    ) -> None:
        if balance_steps < 0:
            raise ValueError(f"`balance_steps` is not negative, got {balance_steps}")
        if ramp not in get_args(Ramp):
            raise ValueError(f"`ramp` is one of {', '.join(get_args(Ramp))}, got {ramp!r}")
        if ramp_steps is not None and (ramp_steps < 0 or ramp == "step"):
            raise ValueError(f"`ramp_steps` is not negative and goes with ramp linear or cosine, got {ramp_steps}")
        groups = optimizer.param_groups
        if multipliers is None:
            multipliers = [group.get("lr_multiplier") for group in groups]
            if all(value is None for value in multipliers):
                raise ValueError(
                    "`multipliers` are one for each group, got none: give them, or make the groups with "
                    "`layerwise_lr_groups`"
                )
        self.multipliers = _checked(multipliers, len(groups), "multipliers")
        equal = [None if value is None else 1.0 for value in self.multipliers]
        self.after = _checked(equal if after is None else after, len(groups), "after")
        if [value is None for value in self.after] != [value is None for value in self.multipliers]:
            raise ValueError(f"`after` names the same groups as `multipliers`, got {self.after} and {self.multipliers}")
        self.balance_steps = balance_steps
        self.ramp = ramp
        self.ramp_steps = 0 if ramp == "step" else balance_steps if ramp_steps is None else ramp_steps
        self._inner = schedule(optimizer) if schedule is not None else None
        self._unbalanced: list[float | Tensor] = []
        super().__init__(optimizer)

    def share(self, step: int) -> float:
        """Return φ, how far the multipliers hold after a number of steps, from 1 to 0."""
        progress = min(1.0, max(0.0, (step - self.balance_steps + 1) / (self.ramp_steps + 1)))
        return (1 + math.cos(math.pi * progress)) / 2 if self.ramp == "cosine" else 1 - progress

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rates of all groups."""
        if self._inner is None:
            self._unbalanced = list(self.base_lrs)
        elif self.last_epoch > 0:
            # The inner schedule may go on from the rates that it finds.
            for group, lr in zip(self.optimizer.param_groups, self._unbalanced, strict=True):
                _set(group, lr)
            self._inner.step()
            self._unbalanced = [_copied(group["lr"]) for group in self.optimizer.param_groups]
        else:
            self._unbalanced = [_copied(group["lr"]) for group in self.optimizer.param_groups]
        share = self.share(self.last_epoch)
        early, late = (_conserving(values, self._unbalanced) for values in (self.multipliers, self.after))
        return [
            lr * (share * first + (1 - share) * last)
            for lr, first, last in zip(self._unbalanced, early, late, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """Return the state in plain numbers, that of the inner schedule within it."""
        state = {key: value for key, value in super().state_dict().items() if key != "_inner"}
        return state | {"schedule": None if self._inner is None else self._inner.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ValueError: it is of a scheduler with an inner schedule, and this one has none, or the reverse.
        """
        inner = state_dict["schedule"]
        if (inner is None) != (self._inner is None):
            raise ValueError(
                "`state_dict` is of a LayerBalancedLR with a `schedule`, and this one has none, or reverse"
            )
        if self._inner is not None:
            self._inner.load_state_dict(inner)
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "schedule"})


def _checked(values: Sequence[float | None], count: int, name: str) -> list[float | None]:
    if len(values) != count:
        raise ValueError(f"`{name}` has one number for each of the {count} groups, got {len(values)}")
    require_multipliers({f"group {index}": float(value) for index, value in enumerate(values) if value is not None})
    return [None if value is None else float(value) for value in values]


def _conserving(multipliers: Sequence[float | None], rates: Sequence[float | Tensor]) -> list[float]:
    """Return the factors in proportion to the multipliers with which the sum of the rates stays the same."""
    pairs = [(value, float(rate)) for value, rate in zip(multipliers, rates, strict=True) if value is not None]
    before, after = sum(rate for _, rate in pairs), sum(value * rate for value, rate in pairs)
    # Where all rates are zero, so are they with any factor.
    scale = before / after if after else 1.0
    return [1.0 if value is None else value * scale for value in multipliers]


def _copied(lr: float | Tensor) -> float | Tensor:
    return lr.clone() if isinstance(lr, Tensor) else lr


def _set(group: dict[str, Any], lr: float | Tensor) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr
