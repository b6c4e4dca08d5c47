"""The terms of a physics-informed loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from lightning_regimes.pde import INTERIOR, Field, Problem


class LossTerms:
    """The terms ``w_k mean r_k²``: one for the equation ("interior"), one for each condition that isn't exact already.

    Args:
        problem: whose equation and conditions they are.
        exact: names of conditions that the field satisfies by construction.
        weights: factor of each term, 1 where not given.

    Raises:
        ValueError: a weight has no term, or isn't positive.
    """

    def __init__(
        self, problem: Problem, *, exact: Sequence[str] = (), weights: Mapping[str, float] | None = None
    ) -> None:
        conditions = [condition.name for condition in problem.conditions if condition.name not in exact]
        self.names = (INTERIOR, *conditions)
        self.weights = {**dict.fromkeys(self.names, 1.0), **(weights or {})}
        for name, weight in self.weights.items():
            if name not in self.names:
                raise ValueError(f"`weights` names {name!r}, but the loss has the terms {', '.join(self.names)}.")
            if not weight > 0:
                raise ValueError(f"`weights` must be positive, got {weight} for {name!r}.")

    def residuals(self, problem: Problem, field: Field, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the residual of each term at its points.

        Args:
            problem: may have another coefficient than the one given at the start.
            field: map from ``(N, d)`` points to ``(N, m)`` values.
            batch: points by the name of the term; others are ignored.

        Raises:
            ValueError: the batch lacks points of a term.
        """
        missing = [name for name in self.names if name not in batch]
        if missing:
            raise ValueError(f"The batch has no points for {', '.join(missing)}; it has {', '.join(batch)}.")
        return {name: residual(field, batch[name]) for name, residual in self.residual_functions(problem).items()}

    def residual_functions(self, problem: Problem) -> Mapping[str, Callable[[Field, Tensor], Tensor]]:
        """Return what maps a field and points to the residual of each term."""
        conditions = {condition.name: condition.residual for condition in problem.conditions}
        return {INTERIOR: problem.residual} | {name: conditions[name] for name in self.names[1:]}

    def loss(self, name: str, residual: Tensor) -> Tensor:
        """Return ``w_k mean r_k²``."""
        return self.weights[name] * residual.square().mean()
