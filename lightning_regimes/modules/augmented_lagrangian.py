"""Conditions as constraints, by the method of multipliers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class AugmentedLagrangian:
    """Options of the method of multipliers for the conditions of a differential equation.

    Attributes:
        penalty: first penalty ``μ``.
        growth: factor of the penalty at each update.
        max_updates: number of updates, after which multipliers and penalty stay.
        every_n_steps: optimizer steps between updates.

    Raises:
        ValueError: a number is out of range.
    """

    penalty: float = 2.0
    growth: float = 2.0
    max_updates: int = 10
    every_n_steps: int = 50

    def __post_init__(self) -> None:
        if self.penalty <= 0 or self.growth < 1:
            raise ValueError(
                f"`penalty` must be positive and `growth` at least 1, got {self.penalty} and {self.growth}."
            )
        if self.every_n_steps < 1 or self.max_updates < 0:
            raise ValueError(
                "`every_n_steps` must be at least 1 and `max_updates` not negative, got "
                f"{self.every_n_steps} and {self.max_updates}."
            )


class Multipliers(nn.Module):
    """One multiplier ``λ_i`` for each point of each constraint, and the penalty ``μ`` they share.

    A constraint with residuals ``r_i`` adds ``mean(λ r) + ½ μ mean(r²)`` to the objective; an update is
    ``λ ← λ + μ r``, then ``μ ← growth · μ``. All of it is in buffers, hence in checkpoints.

    Args:
        names: of the constraints.
        options: see :class:`AugmentedLagrangian`.

    References:
        J. Nocedal, S. J. Wright, "Numerical Optimization", 2006, section 17.3.
    """

    penalty: Tensor
    num_updates: Tensor

    def __init__(self, names: Sequence[str], options: AugmentedLagrangian) -> None:
        super().__init__()
        self.options = options
        for name in names:
            # How many points there are is known with the first batch; until then the multipliers are zero.
            self.register_buffer(_buffer_name(name), torch.empty(0))
        self.register_buffer("penalty", torch.tensor(options.penalty))
        self.register_buffer("num_updates", torch.tensor(0))

    def term(self, name: str, residual: Tensor) -> Tensor:
        """Return ``mean(λ r) + ½ μ mean(r²)`` of one constraint.

        Raises:
            ValueError: the number of residuals differs from the number of multipliers.
        """
        quadratic = 0.5 * self.penalty * residual.square().mean()
        multiplier = self._multiplier(name, residual)
        return quadratic if multiplier is None else (multiplier * residual).mean() + quadratic

    @torch.no_grad()
    def update(self, residuals: Mapping[str, Tensor]) -> None:
        """Move each multiplier by ``μ r`` and raise the penalty, unless ``max_updates`` were made."""
        if int(self.num_updates) >= self.options.max_updates:
            return
        for name, residual in residuals.items():
            step = self.penalty * residual
            multiplier = self._multiplier(name, residual)
            setattr(self, _buffer_name(name), step if multiplier is None else multiplier + step)
        self.penalty = self.penalty * self.options.growth
        self.num_updates = self.num_updates + 1

    def _multiplier(self, name: str, residual: Tensor) -> Tensor | None:
        multiplier: Tensor = getattr(self, _buffer_name(name))
        if multiplier.numel() == 0:
            return None
        if multiplier.shape != residual.shape:
            raise ValueError(
                f"The augmented Lagrangian has a multiplier for each of the {multiplier.shape[0]} points of {name!r}, "
                f"but the batch has {residual.shape[0]}: use the same condition points in every step (no resampling)."
            )
        return multiplier

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name, buffer in list(self._buffers.items()):
            stored = state_dict.get(prefix + name)
            if buffer is not None and stored is not None and stored.shape != buffer.shape:
                self._buffers[name] = buffer.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _buffer_name(name: str) -> str:
    return f"multiplier_{name}"
