"""Predator and prey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_regimes.pde.ode_system import ODESystem
from lightning_regimes.pde.points import Domain


@dataclass(frozen=True)
class LotkaVolterra(ODESystem):
    """Two populations that oscillate: ``ẋ = α x − β x y``, ``ẏ = δ x y − γ y``.

    ``V = δ x − γ ln x + β y − α ln y`` is conserved.

    Attributes:
        alpha: growth rate ``α`` of the prey.
        beta: rate ``β`` at which predators eat prey.
        delta: rate ``δ`` at which predators grow by that.
        gamma: rate ``γ`` at which predators die.

    References:
        A. J. Lotka, "Elements of physical biology", 1925; V. Volterra, "Fluctuations in the abundance of a species
        considered mathematically", Nature 118, 1926.
    """

    state_names: ClassVar[tuple[str, ...]] = ("prey", "predators")
    coefficient: ClassVar[str] = "gamma"
    duration: ClassVar[float] = 10.0

    alpha: float = 1.5
    beta: float = 1.0
    delta: float = 1.0
    gamma: float = 3.0

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "delta", "gamma"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}.")

    @property
    def start_box(self) -> Domain:
        """From a half to twice the equilibrium ``(γ/δ, α/β)``."""
        prey, predators = self.gamma / self.delta, self.alpha / self.beta
        return ((prey / 2, 2 * prey), (predators / 2, 2 * predators))

    def derivative(self, states: Tensor) -> Tensor:
        """Return ``(α x − β x y, δ x y − γ y)``."""
        prey, predators = states.unbind(dim=-1)
        eaten = prey * predators
        return torch.stack([self.alpha * prey - self.beta * eaten, self.delta * eaten - self.gamma * predators], dim=-1)

    def quantities(self, states: Tensor) -> dict[str, Tensor]:
        """Return ``δ x − γ ln x + β y − α ln y``, NaN where a population isn't positive."""
        prey, predators = states.unbind(dim=-1)
        of_prey = self.delta * prey - self.gamma * torch.log(prey)
        return {"first_integral": of_prey + self.beta * predators - self.alpha * torch.log(predators)}

    def quantity_rates(self, states: Tensor) -> dict[str, Tensor]:
        """Return zeros."""
        return {"first_integral": torch.zeros_like(states[..., 0])}
