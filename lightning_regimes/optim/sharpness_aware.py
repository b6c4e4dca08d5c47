"""Any optimizer, with the gradient of the worst loss nearby in place of that of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

_SMALLEST_WEIGHT = 0.01


class SharpnessAware(Optimizer):
    r"""Sharpness-aware minimization (SAM), and its scale-invariant variant (ASAM), around any optimizer.

    The wrapped optimizer gets the gradient at the perturbed weights:

    .. math:: \nabla L(w + e), \qquad e = \rho \, \frac{T^2 g}{\|T g\|}, \qquad g = \nabla L(w)

    with T = 1, or with ``adaptive`` :math:`T = \operatorname{diag}(|w| + 0.01)`. Norms are over all parameters. The
    weights are restored before the wrapped optimizer moves them, bit by bit, and the loss that it returns is L(w).

    Each evaluation of the closure becomes two. The closure has to zero the gradients itself: accumulated ones are
    refused. Under automatic optimization ``training_step`` runs twice a step, so that what it logs last is at the
    perturbed weights, and running statistics, as of BatchNorm, take in both batches of activations; set ``momentum``
    of such layers to zero during the second pass where that matters.

    Parameter groups, with ``rho`` and ``adaptive`` in each, and state are those of the wrapped optimizer, and so is
    the checkpoint: either can load that of the other.

    Args:
        optimizer: what makes the step; do not step it beside this one.
        rho: ρ, the radius of the neighbourhood, in the units of the weights; with ``adaptive`` relative to them, and
            then about ten times as large.
        adaptive: whether the neighbourhood scales with the weights.

    Raises:
        ValueError: ``rho`` is negative, or the wrapped optimizer needs the graph of its gradients.

    References:
        P. Foret et al., Sharpness-aware minimization for efficiently improving generalization, ICLR 2021,
        arXiv:2010.01412, equation 2. J. Kwon et al., ASAM, ICML 2021, arXiv:2102.11600, section 4.
    """

    def __init__(self, optimizer: Optimizer, *, rho: float = 0.05, adaptive: bool = False) -> None:
        if not rho >= 0:
            raise ValueError(f"`rho` must not be negative, got {rho}")
        if getattr(optimizer, "needs_gradient_graph", False):
            raise ValueError(
                f"`optimizer` must do with plain gradients, got {type(optimizer).__name__}, which differentiates them"
            )
        # Copies, since the base class writes into the groups that it is given.
        super().__init__([dict(group) for group in optimizer.param_groups], optimizer.defaults)
        self.optimizer = optimizer
        self._options = {"rho": rho, "adaptive": adaptive}
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step of the wrapped optimizer with the gradient at the perturbed weights.

        Args:
            closure: zeroes the gradients, and evaluates the loss and its gradient; called twice for each evaluation
                that the wrapped optimizer asks for.

        Returns:
            What the wrapped optimizer returns, as a rule the loss before the step, at the weights themselves.

        Raises:
            ValueError: there is no closure, or it does not zero the gradients.
        """
        if closure is None:
            raise ValueError(
                "SharpnessAware needs a closure that evaluates the loss and its gradient, got none; precision "
                '"16-mixed" steps without one, and "bf16-mixed" with it'
            )
        return self.optimizer.step(lambda: self._evaluate_nearby(closure))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the wrapped optimizer."""
        if "optimizer" in self.__dict__:
            self.optimizer.add_param_group(param_group)
            self._share()
        else:
            super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return that of the wrapped optimizer, with ``rho`` and ``adaptive`` in its groups."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of such an optimizer or of a bare one."""
        self.optimizer.load_state_dict(state_dict)
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"optimizer": self.optimizer, "_options": self._options}

    def _share(self) -> None:
        # Loading a state gives the wrapped optimizer new containers, and that of a bare one lacks our options.
        for group in self.optimizer.param_groups:
            for name, value in self._options.items():
                group.setdefault(name, value)
        self.state = self.optimizer.state
        self.param_groups = self.optimizer.param_groups
        self.defaults = self.optimizer.defaults

    def _evaluate_nearby(self, closure: Callable[[], Any]) -> Any:
        """Return the loss at the weights, and leave the gradient at the perturbed ones."""
        with torch.enable_grad():
            loss = closure()
        perturbed = [parameter for group in self.param_groups for parameter in group["params"] if _moves(parameter)]
        before = [parameter.detach().clone() for parameter in perturbed]
        try:
            self._perturb()
            for parameter in perturbed:
                # What a closure that does not zero its gradients would add to.
                parameter.grad = torch.full_like(parameter, torch.nan)
            with torch.enable_grad():
                nearby = closure()
        finally:
            with torch.no_grad():
                for parameter, old in zip(perturbed, before, strict=True):
                    parameter.copy_(old)
        if perturbed and _accumulates(nearby, perturbed):
            raise ValueError(
                "SharpnessAware needs a closure that zeroes the gradients first, got one that adds to them: set "
                "`accumulate_grad_batches` to 1"
            )
        return loss

    @torch.no_grad()
    def _perturb(self) -> None:
        scaled = [
            (parameter, group["rho"], (parameter.abs() + _SMALLEST_WEIGHT) if group["adaptive"] else None)
            for group in self.param_groups
            for parameter in group["params"]
            if _moves(parameter)
        ]
        if not scaled:
            return
        norms = [
            torch.linalg.vector_norm(_gradient(parameter) if scale is None else scale * _gradient(parameter))
            for parameter, _, scale in scaled
        ]
        norm = torch.linalg.vector_norm(torch.stack([entry.to(norms[0].device) for entry in norms]))
        if bool(norm == 0):
            return
        for parameter, rho, scale in scaled:
            gradient = _gradient(parameter) if scale is None else scale.square() * _gradient(parameter)
            parameter.add_(gradient * (rho / norm).to(gradient))


def _moves(parameter: Tensor) -> bool:
    return parameter.grad is not None


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _accumulates(loss: Any, parameters: list[Tensor]) -> bool:
    is_finite = bool(torch.isfinite(torch.as_tensor(loss)))
    left = [parameter.grad for parameter in parameters]
    return is_finite and all(gradient is not None and bool(gradient.isnan().all()) for gradient in left)
