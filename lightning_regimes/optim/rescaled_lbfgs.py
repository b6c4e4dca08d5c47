"""L-BFGS that does not stop learning the curvature of a loss because it has become small."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from lightning_regimes.optim.compact_lbfgs import CompactLBFGS

# The loss at the first step. L-BFGS itself is the same at any scale, as far as products of slopes fit into float32.
_FIRST_LOSS = 1e3


class RescaledLBFGS(CompactLBFGS):
    r"""L-BFGS on :math:`10^3 L / L_0`, with :math:`L_0` the loss at its first step.

    :class:`CompactLBFGS`, as torch, leaves out pairs of steps s and changes of the gradient y with
    :math:`y^T s \le 10^{-10}`, whatever the scale of the loss. Near the end of a fit all pairs are as small as that,
    and what remains is steepest descent. The iteration is otherwise the same for any multiple of a loss, apart from the
    tolerances, which apply to the multiple.
    Where the line search overflows, which torch answers with an error, the step is undone and the next starts anew.

    The arguments are those of :class:`torch.optim.LBFGS`.
    """

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Do one step and return the loss before it.

        Args:
            closure: zeroes the gradients, evaluates the loss and its gradient.
        """
        state = self.state[self._params[0]]

        def rescaled() -> Any:
            loss = closure()
            if "loss_scale" not in state:
                first = float(torch.as_tensor(loss).detach())
                state["loss_scale"] = _FIRST_LOSS / first if math.isfinite(first) and first > 0 else 1.0
            for parameter in self._params:
                if parameter.grad is not None:
                    parameter.grad.mul_(state["loss_scale"])
            return loss * state["loss_scale"]

        before = [parameter.detach().clone() for parameter in self._params]
        try:
            return super().step(rescaled) / state["loss_scale"]
        except RuntimeError as error:
            if "without overflow" not in str(error):
                raise
            with torch.no_grad():
                for parameter, old in zip(self._params, before, strict=True):
                    parameter.copy_(old)
            self.state.clear()
            return closure()
