"""Two bodies that attract each other, seen from one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lightning_regimes.pde.ode_system import ODESystem
from lightning_regimes.pde.points import Domain, PointSampler


@dataclass(frozen=True)
class TwoBody(ODESystem):
    """Kepler's problem in the plane: ``r̈ = −r / |r|³``, in units in which the gravitational parameter is 1.

    Energy ``½ |v|² − 1 / |r|`` and angular momentum ``x v_y − y v_x`` are conserved. Trajectories start where they are
    nearest, on orbits of semi-major axis 1, hence of period 2π, that lie in any direction.

    Attributes:
        eccentricity: the largest one of the orbits, in ``[0, 1)``; they are drawn uniformly from zero to it.
    """

    state_names: ClassVar[tuple[str, ...]] = ("x", "y", "v_x", "v_y")
    coefficient: ClassVar[str] = "eccentricity"
    duration: ClassVar[float] = 4 * math.pi

    eccentricity: float = 0.3

    def __post_init__(self) -> None:
        if not 0 <= self.eccentricity < 1:
            raise ValueError(f"`eccentricity` must lie in [0, 1), got {self.eccentricity}: the orbit would not close.")

    @property
    def start_box(self) -> Domain:
        """Eccentricity, and angle of the pericentre."""
        return ((0.0, self.eccentricity), (0.0, 2 * math.pi))

    def initial_states(self, num_states: int, sampler: PointSampler) -> Tensor:
        """Return pericentres with their velocities, ``(num_states, 4)`` in float64."""
        eccentricity, angle = sampler(self.start_box, num_states).unbind(dim=-1)
        radius = 1 - eccentricity
        speed = torch.sqrt((1 + eccentricity) / (1 - eccentricity))
        cosine, sine = torch.cos(angle), torch.sin(angle)
        return torch.stack([radius * cosine, radius * sine, -speed * sine, speed * cosine], dim=-1)

    def derivative(self, states: Tensor) -> Tensor:
        """Return ``(v, −r / |r|³)``."""
        position, velocity = states[..., :2], states[..., 2:]
        return torch.cat([velocity, -position / position.norm(dim=-1, keepdim=True) ** 3], dim=-1)

    def quantities(self, states: Tensor) -> dict[str, Tensor]:
        """Return energy and angular momentum."""
        x, y, v_x, v_y = states.unbind(dim=-1)
        energy = 0.5 * (v_x**2 + v_y**2) - (x**2 + y**2).rsqrt()
        return {"energy": energy, "angular_momentum": x * v_y - y * v_x}

    def quantity_rates(self, states: Tensor) -> dict[str, Tensor]:
        """Return zeros."""
        return dict.fromkeys(("energy", "angular_momentum"), torch.zeros_like(states[..., 0]))
