"""Adam first, L-BFGS afterwards, in one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Adam, Optimizer

from lightning_regimes.optim.compact_lbfgs import CompactLBFGS


class AdamThenLBFGS(Optimizer):
    """Adam for ``switch_step`` steps, then strong-Wolfe L-BFGS: robust far from a minimum, fast close to it.

    One optimizer, so that ``Trainer.fit`` runs both stages under automatic optimization, a checkpoint taken in either
    resumes it exactly, and ``param_groups[0]["lr"]`` is the rate of the stage that runs. At the switch Adam's moments
    are dropped.

    Args:
        params: parameters, in one group as L-BFGS has no others.
        switch_step: number of Adam steps; 0 starts with L-BFGS.
        adam_lr: learning rate of Adam.
        betas: decay of Adam's moments.
        lbfgs_lr: first trial step of each line search.
        max_iter: L-BFGS iterations a step.
        max_eval: evaluations of the loss an L-BFGS step; ``10 · max_iter`` by default.
        history_size: pairs that approximate the inverse Hessian.
        tolerance_grad: largest gradient entry at which an L-BFGS step ends.
        tolerance_change: change of parameters or loss at which an L-BFGS step ends.

    Raises:
        ValueError: ``switch_step`` is negative, or there are several parameter groups.

    References:
        P. Rathore et al., "Challenges in training PINNs: a loss landscape perspective", ICML 2024, arXiv:2402.01868.
    """

    _stages: dict[str, Optimizer]

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        switch_step: int = 1000,
        adam_lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        lbfgs_lr: float = 1.0,
        max_iter: int = 20,
        max_eval: int | None = None,
        history_size: int = 100,
        tolerance_grad: float = 0.0,
        tolerance_change: float = 0.0,
    ) -> None:
        if switch_step < 0:
            raise ValueError(f"`switch_step` must not be negative, got {switch_step}.")
        defaults = {
            "lr": adam_lr if switch_step > 0 else lbfgs_lr,
            "lbfgs_lr": lbfgs_lr,
            "betas": betas,
            "switch_step": switch_step,
            "num_steps": 0,
            "max_iter": max_iter,
            "max_eval": 10 * max_iter if max_eval is None else max_eval,
            "history_size": history_size,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
        }
        super().__init__(params, defaults)
        self._stages = {}
        if len(self.param_groups) != 1:
            raise ValueError(
                f"AdamThenLBFGS takes one parameter group since L-BFGS has no others, got {len(self.param_groups)}."
            )

    @property
    def stage(self) -> str:
        """The stage of the next step: "adam" or "lbfgs"."""
        group = self.param_groups[0]
        return "adam" if group["num_steps"] < group["switch_step"] else "lbfgs"

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step of the current stage and return the loss before it.

        Args:
            closure: evaluates the loss and its gradient; the L-BFGS stage calls it several times.

        Raises:
            ValueError: there is no closure.
        """
        if closure is None:
            raise ValueError("AdamThenLBFGS needs a closure that evaluates the loss and its gradient.")
        group = self.param_groups[0]
        stage = self.stage
        if stage == "lbfgs" and group["num_steps"] == group["switch_step"]:
            self.state.clear()
        loss = self._optimizer_of(stage).step(closure)
        group["num_steps"] += 1
        if stage == "adam" and self.stage == "lbfgs":
            group["lr"] = group["lbfgs_lr"]
        return loss

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # A loaded state may bring other settings: the stages are built from them again.
        self._stages = {}

    def _optimizer_of(self, stage: str) -> Optimizer:
        """Return the stage's optimizer; its state is this optimizer's, so that checkpoints hold it."""
        group = self.param_groups[0]
        if stage not in self._stages:
            if stage == "adam":
                self._stages[stage] = Adam(group["params"], betas=group["betas"])
            else:
                self._stages[stage] = CompactLBFGS(
                    group["params"],
                    max_iter=group["max_iter"],
                    max_eval=group["max_eval"],
                    history_size=group["history_size"],
                    tolerance_grad=group["tolerance_grad"],
                    tolerance_change=group["tolerance_change"],
                    line_search_fn="strong_wolfe",
                )
        optimizer = self._stages[stage]
        optimizer.state = self.state
        # Schedulers and users change the rate on this optimizer.
        optimizer.param_groups[0]["lr"] = group["lr"]
        return optimizer
