"""What is known about a system of differential equations, as a penalty on a learned field."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_regimes.modules.ode_solver import VectorField
from lightning_regimes.pde import ODESystem, sobol_sampler

_SEED = 20_240_303


@dataclass(frozen=True, kw_only=True)
class PhysicsPenalty:
    """A term ``w · P`` of the loss that holds a learned field ``f_θ`` to a known system ``ẏ = f(y)``.

    ``P`` is the mean square of ``f_θ(y) − f(y)`` with the right-hand side, or of ``∇I(y) · f_θ(y) − dI/dt`` with the
    system's quantities ``I``, such as an energy whose rate of change is known. The mean is over states and components
    or quantities.

    Attributes:
        knowledge: "right_hand_side" or "invariants".
        weight: ``w``.
        num_states: initial states of the system, fixed Sobol points, at which the penalty is taken; 0 takes it at the
            states of the batch.

    Raises:
        ValueError: the knowledge is of another kind, or a number is out of range.

    References:
        Wang et al., the multi-regime study of scientific machine learning, arXiv:2605.29153.
    """

    knowledge: Literal["right_hand_side", "invariants"] = "right_hand_side"
    weight: float = 1.0
    num_states: int = 0

    def __post_init__(self) -> None:
        if self.knowledge not in ("right_hand_side", "invariants"):
            raise ValueError(f'`knowledge` must be "right_hand_side" or "invariants", got {self.knowledge!r}.')
        if not self.weight > 0:
            raise ValueError(f"`weight` must be positive, got {self.weight}.")
        if self.num_states < 0:
            raise ValueError(f"`num_states` must not be negative, got {self.num_states}.")

    def states(self, system: ODESystem) -> Tensor:
        """Return the fixed states, ``(num_states, n)`` in float64."""
        return system.initial_states(self.num_states, sobol_sampler(_SEED))

    def loss(self, system: ODESystem, field: VectorField, states: Tensor) -> Tensor:
        """Return ``w · P`` at states ``(..., n)``; it belongs where derivatives are enabled."""
        points = states.detach().reshape(-1, states.shape[-1])
        velocities = field(points)
        if self.knowledge == "right_hand_side":
            return self.weight * (velocities - system.derivative(points)).square().mean()
        found, expected = system.rates_along(points, velocities), system.quantity_rates(points)
        errors = torch.stack([found[name] - expected[name] for name in expected], dim=-1)
        return self.weight * errors.square().mean()
