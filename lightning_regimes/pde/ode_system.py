"""What a system of ordinary differential equations offers to training: right-hand side, balances, trajectories."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from lightning_regimes.pde.derivatives import differentiable, gradient
from lightning_regimes.pde.points import Domain, PointSampler

# DOP853 takes no relative tolerance below a hundred times the rounding of float64.
_SMALLEST_TOLERANCE = 2.3e-14


class ODESystem(ABC):
    """An autonomous system ``ẏ = f(y)`` of ``n`` states, and quantities whose rate of change along it is known.

    Subclasses are frozen dataclasses whose fields are the coefficients of the system.

    Attributes:
        state_names: names of the ``n`` states.
        coefficient: the dataclass field that makes the system hard to learn; sweeps move it.
        duration: time over which trajectories are usually looked at.
    """

    state_names: ClassVar[tuple[str, ...]]
    coefficient: ClassVar[str]
    duration: ClassVar[float]

    @property
    @abstractmethod
    def start_box(self) -> Domain:
        """Lower and upper end of each number that :meth:`initial_states` draws."""

    @abstractmethod
    def derivative(self, states: Tensor) -> Tensor:
        """Return ``f(y)``: ``(..., n)`` to ``(..., n)``."""

    @abstractmethod
    def quantities(self, states: Tensor) -> dict[str, Tensor]:
        """Return quantities such as the energy, by name: ``(..., n)`` states to ``(...)`` each."""

    @abstractmethod
    def quantity_rates(self, states: Tensor) -> dict[str, Tensor]:
        """Return ``dI/dt`` of each quantity along the system as a closed form: zeros for one that is conserved."""

    @property
    def num_states(self) -> int:
        """Number ``n`` of states."""
        return len(self.state_names)

    @property
    def coefficient_value(self) -> float:
        """The value of the coefficient that makes the system hard to learn."""
        return float(getattr(self, self.coefficient))

    def with_coefficient(self, value: float) -> Self:
        """Return the same system with another value of the coefficient that makes it hard to learn."""
        dataclass: Any = self
        changed: Self = dataclasses.replace(dataclass, **{self.coefficient: value})
        return changed

    def initial_states(self, num_states: int, sampler: PointSampler) -> Tensor:
        """Return initial states drawn from the box where trajectories start, ``(num_states, n)`` in float64."""
        return sampler(self.start_box, num_states)

    def rates_along(self, states: Tensor, velocities: Tensor) -> dict[str, Tensor]:
        """Return ``∇I(y) · v`` of each quantity: how fast it changes where states move with velocities ``v``.

        Along the system itself this is :meth:`quantity_rates`. The gradient of ``I`` is treated as a constant, so
        that the result is differentiable in the velocities only.

        Args:
            states: ``(N, n)``.
            velocities: ``(N, n)``.

        Returns:
            ``(N,)`` for each quantity.
        """
        points = differentiable(states.detach())
        return {
            name: (gradient(values, points).detach() * velocities).sum(dim=-1)
            for name, values in self.quantities(points).items()
        }

    def solve(self, initial: Tensor, times: Tensor, *, tolerance: float = 1e-10) -> Tensor:
        """Return reference trajectories by the Runge–Kutta method DOP853 of order 8, in float64.

        Args:
            initial: ``(N, n)`` states at the first time.
            times: ``(T,)``, increasing.
            tolerance: relative error of a step, for each trajectory by itself; the absolute one is a hundredth of it.

        Returns:
            ``(N, T, n)``, without a gradient.

        Raises:
            ValueError: the shape of ``initial`` doesn't fit, the times don't increase, or ``tolerance`` isn't positive.
            RuntimeError: the integration couldn't reach the last time.

        References:
            E. Hairer, S. P. Nørsett, G. Wanner, "Solving ordinary differential equations I", section II.10.
        """
        if initial.dim() != 2 or initial.shape[1] != self.num_states:
            raise ValueError(f"`initial` must have shape (N, {self.num_states}), got {tuple(initial.shape)}.")
        if times.dim() != 1 or len(times) < 2 or not bool((times.diff() > 0).all()):
            raise ValueError(f"`times` must be a vector of at least two increasing times, got {times.tolist()}.")
        if not tolerance > 0:
            raise ValueError(f"`tolerance` must be positive, got {tolerance}.")
        shape = initial.shape
        at = times.detach().cpu().double().numpy()

        def right_hand_side(_: float, flat: Any) -> Any:
            return self.derivative(torch.from_numpy(flat).reshape(shape)).reshape(-1).numpy()

        # All trajectories are one system, whose error is a mean over them: the root makes it hold for each.
        relative = max(tolerance / shape[0] ** 0.5, _SMALLEST_TOLERANCE)
        with torch.no_grad():
            solved = solve_ivp(
                right_hand_side,
                (at[0], at[-1]),
                initial.detach().cpu().double().reshape(-1).numpy(),
                method="DOP853",
                t_eval=at,
                rtol=relative,
                atol=relative / 100,
            )
        if not solved.success:
            raise RuntimeError(f"{self} could not be integrated to time {at[-1]:g}: {solved.message}")
        return torch.from_numpy(solved.y.T.copy()).reshape(len(at), *shape).transpose(0, 1).contiguous()
