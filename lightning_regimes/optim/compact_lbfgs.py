"""L-BFGS whose directions cost as much as a few products with a matrix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Torch's own line search is part of what makes the iterates the same.
from torch.optim.lbfgs import _strong_wolfe

from lightning_regimes.optim.curvature_pairs import CurvaturePairs

# Torch's least product of a step and a change of the gradient that is remembered.
_LEAST_PRODUCT = 1e-10


class CompactLBFGS(torch.optim.LBFGS):
    """Torch's L-BFGS, iterate by iterate, with its history in matrices (see :class:`CurvaturePairs`).

    Torch goes through its history pair by pair, which for networks of a few thousand weights takes longer than the
    gradient: with 100 pairs, 400 operations on short vectors an iteration. The iterates differ by rounding alone, those
    of long trainings thus as much as from one machine to another.

    The arguments are those of :class:`torch.optim.LBFGS`. Its state is another, so that checkpoints of one don't
    continue with the other.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Do ``max_iter`` iterations, fewer where a tolerance is met, and return the loss before them.

        Args:
            closure: zeroes the gradients, evaluates the loss and its gradient.

        Raises:
            ValueError: the line search is not one of torch's.
        """
        group = self.param_groups[0]
        if group["line_search_fn"] not in (None, "strong_wolfe"):
            raise ValueError(f'`line_search_fn` is "strong_wolfe" or None, got {group["line_search_fn"]!r}')
        state = self.state[self._params[0]]
        pairs = CurvaturePairs(group["history_size"], **state.get("pairs", {}))
        evaluate = torch.enable_grad()(closure)

        returned = evaluate()
        loss, gradient, num_evaluations = float(returned), self._gather_flat_grad(), 1
        for iteration in range(group["max_iter"]):
            if gradient.abs().max() <= group["tolerance_grad"]:
                break
            direction, length = self._direction(pairs, gradient)
            state["gradient"] = gradient
            slope = gradient.dot(direction)
            if slope > -group["tolerance_change"]:
                break
            loss_before = loss
            if group["line_search_fn"] == "strong_wolfe":
                loss, gradient, length, spent = self._search(
                    evaluate, direction, length, loss, gradient, slope, group["max_eval"] - num_evaluations
                )
                self._add_grad(length, direction)
                num_evaluations += spent
            else:
                self._add_grad(length, direction)
                # After the last iteration the next step evaluates the loss, for a closure that may be another one.
                if iteration + 1 < group["max_iter"]:
                    loss, gradient = float(evaluate()), self._gather_flat_grad()
                    num_evaluations += 1
            state["step"] = direction.mul_(length)
            if (
                num_evaluations >= group["max_eval"]
                or state["step"].abs().max() <= group["tolerance_change"]
                or abs(loss - loss_before) < group["tolerance_change"]
            ):
                break
        state["pairs"] = pairs.state()
        state["func_evals"] = state.get("func_evals", 0) + num_evaluations
        return returned

    def _direction(self, pairs: CurvaturePairs, gradient: Tensor) -> tuple[Tensor, float]:
        """Return where to go, and how far to try first, with the pair that the last step has made."""
        state, rate = self.state[self._params[0]], float(self.param_groups[0]["lr"])
        if "gradient" not in state:
            return gradient.neg(), rate * min(1.0, 1.0 / float(gradient.abs().sum()))
        step, change = state.pop("step", None), gradient - state["gradient"]
        if step is not None and change.dot(step) > _LEAST_PRODUCT:
            pairs.append(step, change)
        return pairs.inverse_hessian_product(gradient).neg_(), rate

    def _search(
        self,
        evaluate: Callable[[], Any],
        direction: Tensor,
        length: float,
        loss: float,
        gradient: Tensor,
        slope: Tensor,
        max_evaluations: int,
    ) -> tuple[float, Tensor, float, int]:
        """Return the loss, its gradient and the length at which the strong Wolfe conditions hold, and the cost."""

        def at(start: list[Tensor], tried: float, along: Tensor) -> tuple[float, Tensor]:
            found: tuple[float, Tensor] = self._directional_evaluate(evaluate, start, tried, along)
            return found

        found, new_gradient, accepted, spent = _strong_wolfe(
            at, self._clone_param(), length, direction, loss, gradient, slope, max_ls=max_evaluations
        )
        return float(found), new_gradient, float(accepted), spent
