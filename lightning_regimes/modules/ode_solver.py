"""Trajectories of a learned field, differentiable by ``torchdiffeq``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torchdiffeq
from torch import Tensor

FIXED_STEP_METHODS = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams")
ADAPTIVE_METHODS = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")

VectorField = Callable[[Tensor], Tensor]


class IntegrationError(RuntimeError):
    """A trajectory that the solver could not follow to its end."""


@dataclass(frozen=True, kw_only=True)
class ODESolver:
    """How ``ẏ = f(y)`` is integrated.

    Attributes:
        method: one with fixed steps ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams")
            or one that adapts them ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun").
        substeps: equal steps between two times, for fixed steps.
        rtol: relative tolerance of an adaptive method.
        atol: absolute tolerance of an adaptive method.
        min_step: steps of an adaptive method become no smaller than this, whatever their error.
        max_num_steps: steps of an adaptive method between two times.
        adjoint: gradients by an adjoint equation that is integrated backwards, in constant memory, instead of through
            the steps of the solver. They differ from the gradients of the computed loss by the errors of the solver,
            and cannot be differentiated again.

    Raises:
        ValueError: the method is unknown, or a number is out of range.

    References:
        R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, "Neural ordinary differential equations", NeurIPS 2018,
        arXiv:1806.07366.
    """

    method: str = "rk4"
    substeps: int = 1
    rtol: float = 1e-5
    atol: float = 1e-6
    min_step: float = 0.0
    max_num_steps: int = 10_000
    adjoint: bool = False

    def __post_init__(self) -> None:
        if self.method not in FIXED_STEP_METHODS + ADAPTIVE_METHODS:
            known = ", ".join(FIXED_STEP_METHODS + ADAPTIVE_METHODS)
            raise ValueError(f"`method` must be one of {known}, got {self.method!r}.")
        for name in ("substeps", "max_num_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name in ("rtol", "atol"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}.")
        if not self.min_step >= 0:
            raise ValueError(f"`min_step` must not be negative, got {self.min_step}.")
        if self.substeps > 1 and self.is_adaptive:
            raise ValueError(f"`substeps` is for fixed steps, and {self.method!r} adapts them: set `rtol` and `atol`.")

    @property
    def is_adaptive(self) -> bool:
        """Whether the method chooses its steps."""
        return self.method in ADAPTIVE_METHODS

    def solve(
        self, field: VectorField, initial: Tensor, times: Tensor, *, adjoint_parameters: Iterable[Tensor] | None = None
    ) -> Tensor:
        """Return the states at given times.

        Args:
            field: ``f``, ``(N, n)`` to ``(N, n)``.
            initial: ``(N, n)`` states at the first times.
            times: ``(N, T)``, increasing along each row. Rows that differ are integrated from time to time.
            adjoint_parameters: parameters of ``field`` whose gradients an adjoint equation is to give; None for
                gradients through the solver.

        Returns:
            ``(N, T, n)``, the initial states first.

        Raises:
            ValueError: the shapes don't fit, or times don't increase.
            IntegrationError: an adaptive method gave up.
        """
        if times.dim() != 2 or initial.dim() != 2 or len(times) != len(initial) or times.shape[1] < 2:
            raise ValueError(
                "`initial` and `times` must have shapes (N, n) and (N, T) with at least two times, got "
                f"{tuple(initial.shape)} and {tuple(times.shape)}."
            )
        lengths = times.diff(dim=1)
        if not bool((lengths > 0).all()):
            row, column = (lengths <= 0).nonzero()[0].tolist() if bool((lengths <= 0).any()) else (0, 0)
            raise ValueError(
                f"`times` must increase along each trajectory, got {times[row, column]:g} and then "
                f"{times[row, column + 1]:g} in row {row}."
            )
        parameters = None if adjoint_parameters is None else tuple(adjoint_parameters)
        offsets = times - times[:, :1]
        with explained_failures(self.method):
            if torch.equal(offsets, offsets[:1].expand_as(offsets)):
                return self._integrate(field, initial, offsets[0], parameters).transpose(0, 1)
            states, unit = [initial], times.new_tensor([0.0, 1.0])
            for length in lengths.split(1, dim=1):
                # In units of its own interval every trajectory goes from 0 to 1.
                scaled = _scaled(field, length)
                states.append(self._integrate(scaled, states[-1], unit, parameters)[-1])
            return torch.stack(states, dim=1)

    def _integrate(
        self, field: VectorField, initial: Tensor, times: Tensor, adjoint_parameters: tuple[Tensor, ...] | None
    ) -> Tensor:
        options: dict[str, Any] = {}
        if self.is_adaptive:
            options = {"min_step": self.min_step, "max_num_steps": self.max_num_steps}
        elif self.substeps > 1:
            options = {"grid_constructor": self._subdivided}
        arguments: dict[str, Any] = {"method": self.method, "rtol": self.rtol, "atol": self.atol, "options": options}

        def right_hand_side(_: Tensor, states: Tensor) -> Tensor:
            return field(states)

        if adjoint_parameters is None:
            solution = torchdiffeq.odeint(right_hand_side, initial, times, **arguments)
        else:
            solution = torchdiffeq.odeint_adjoint(
                right_hand_side, initial, times, adjoint_params=adjoint_parameters, **arguments
            )
        return solution

    def _subdivided(self, _: Any, __: Tensor, times: Tensor) -> Tensor:
        fractions = torch.arange(self.substeps, dtype=times.dtype, device=times.device) / self.substeps
        inner = times[:-1, None] + times.diff()[:, None] * fractions
        return torch.cat([inner.reshape(-1), times[-1:]])


def _scaled(field: VectorField, length: Tensor) -> VectorField:
    return lambda states: length * field(states)


@contextmanager
def explained_failures(method: str) -> Iterator[None]:
    """Raise an :class:`IntegrationError` that says what to do where ``torchdiffeq`` fails an assertion."""
    try:
        yield
    except AssertionError as error:
        reason = str(error)
        if "underflow in dt" in reason:
            what = f"needs a step below the rounding of time ({reason})"
        elif "non-finite" in reason:
            what = "met a state that is not finite"
        elif "max_num_steps" in reason:
            what = f"needs too many steps between two times ({reason})"
        else:
            raise
        raise IntegrationError(
            f"The solver {method!r} {what}: the learned field is too steep or not finite there, so lower the learning "
            "rate, clip gradients, raise `rtol` and `atol`, set `min_step`, or use fixed steps such as "
            'method="rk4".'
        ) from error
