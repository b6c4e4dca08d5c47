"""An optimizer step that is given up, in place of the training, where the loss is not finite."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.optim import Optimizer

from lightning_regimes.optim import NotFiniteError


class GuardedStep:
    """Takes the place of an optimizer's ``step`` and remembers why one was given up.

    Args:
        optimizer: raises :class:`~lightning_regimes.optim.NotFiniteError` and leaves the weights as they are.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._step: Callable[..., Any] = optimizer.step
        #: Why the last step was given up; None when it was not.
        self.failure: str | None = None
        optimizer.step = self  # type: ignore[method-assign]

    def __call__(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step, and return the loss of before."""
        losses: list[Any] = []

        def evaluate() -> Any:
            losses.append(closure() if closure is not None else None)
            return losses[-1]

        self.failure = None
        try:
            return self._step(None if closure is None else evaluate)
        except NotFiniteError as error:
            self.failure = str(error)
            return losses[0] if losses else None
