"""Newton's method for losses too large for a Hessian: conjugate gradients, preconditioned by a sketch of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer

from lightning_regimes.optim.not_finite import NotFiniteError
from lightning_regimes.optim.nystrom_preconditioner import NystromApproximation, Product, nystrom_approximation
from lightning_regimes.optim.truncated_cg import TruncatedSolution, truncated_cg


@dataclass(frozen=True)
class NNCGStep:
    """What one step of :class:`NNCG` did.

    Attributes:
        step_size: how far it went along the direction; 0 where no trial lowered the loss enough.
        num_products: Hessian-vector products, those of the preconditioner included.
        num_evaluations: calls of the closure.
        relative_residual: of the Newton equation.
        negative_curvature: whether that ended the conjugate gradients.
        steepest_descent: whether the direction is −g, since what was found does not descend.
    """

    step_size: float
    num_products: int
    num_evaluations: int
    relative_residual: float
    negative_curvature: bool
    steepest_descent: bool


class NNCG(Optimizer):
    r"""Nyström Newton-CG: a damped Newton step a step, for the last digits of a smooth loss on full batches.

    .. math:: (H + \mu I) d = -g, \qquad w \leftarrow w + \eta d

    Conjugate gradients solve for d from zero, preconditioned by :math:`\hat H = U \Lambda U^T`, the randomized Nyström
    approximation of H that is made every ``update_frequency`` steps. They end early at negative curvature, with what
    they have found; d descends whatever H is. From ``lr`` on, η is multiplied by ``line_search_shrinkage`` until

    .. math:: L(w + \eta d) \le L(w) + \alpha \, \eta \, g^T d

    to the rounding of the loss, and the weights stay as they are where no trial gets there. A step costs one product
    an iteration, each about as much as two gradients, and ``rank`` more where the preconditioner is made.

    The closure has to zero the gradients, evaluate the loss and call ``loss.backward(create_graph=True)``; during the
    line search ``needs_gradient_graph`` is False, and a plain ``backward()`` is enough. Under automatic optimization
    the module does it in a hook, as :class:`~lightning_regimes.modules.PINN` has it::

        def backward(self, loss, *args, **kwargs):
            optimizer = self.optimizers(use_pl_optimizer=False)
            loss.backward(create_graph=optimizer.needs_gradient_graph, inputs=list(self.parameters()))

    Without ``inputs``, a loss with derivatives with respect to its points keeps them and all graphs in memory for ever.

    The loss must be the same function in all calls of a step: no accumulation of gradients, and no random masks.
    After a step the gradients are those at the weights before it, without their graph. A checkpoint holds U, as large
    as ``rank`` times the parameters.

    Args:
        params: parameters, in one group, float32 or float64, on one device.
        lr: η of the first trial.
        rank: r, columns of U; all parameters if there are fewer.
        mu: μ, damping; 0 is Newton's method.
        update_frequency: every how many steps the preconditioner is made.
        cg_tolerance: ‖(H + μI) d + g‖ / ‖g‖ at which the conjugate gradients end. A fixed one makes the convergence
            near a minimum linear with about that factor; a small one makes it quadratic.
        cg_max_iterations: products that the conjugate gradients may spend a step.
        line_search_decrease: α, the part of the predicted decrease that is asked for.
        line_search_shrinkage: β, what a rejected η is multiplied by.
        line_search_max_trials: trials before a step is given up.
        seed: of the random subspaces, which follow from it and the step.

    Raises:
        ValueError: an argument is out of its range, or the parameters are not as they should be.

    References:
        P. Rathore et al., "Challenges in training PINNs: a loss landscape perspective", ICML 2024, arXiv:2402.01868,
        section 7 and appendix E. There the conjugate gradients start from the direction of the step before, and the
        tolerance is absolute.
    """

    needs_gradient_graph: bool = True
    """Whether the closure's gradients need a graph right now, so that products with the Hessian can be taken."""

    last_step: NNCGStep | None = None
    """What the last step did; None before the first."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float = 1.0,
        rank: int = 60,
        mu: float = 1e-2,
        update_frequency: int = 20,
        cg_tolerance: float = 1e-6,
        cg_max_iterations: int = 200,
        line_search_decrease: float = 0.1,
        line_search_shrinkage: float = 0.5,
        line_search_max_trials: int = 30,
        seed: int = 0,
    ) -> None:
        defaults: dict[str, Any] = {
            "lr": lr,
            "rank": rank,
            "mu": mu,
            "update_frequency": update_frequency,
            "cg_tolerance": cg_tolerance,
            "cg_max_iterations": cg_max_iterations,
            "line_search_decrease": line_search_decrease,
            "line_search_shrinkage": line_search_shrinkage,
            "line_search_max_trials": line_search_max_trials,
            "seed": seed,
        }
        for name in ("rank", "update_frequency", "cg_max_iterations", "line_search_max_trials"):
            if defaults[name] < 1:
                raise ValueError(f"`{name}` must be at least 1, got {defaults[name]}")
        for name in ("lr", "mu", "cg_tolerance"):
            if not defaults[name] >= 0:
                raise ValueError(f"`{name}` must not be negative, got {defaults[name]}")
        for name in ("line_search_decrease", "line_search_shrinkage"):
            if not 0 < defaults[name] < 1:
                raise ValueError(f"`{name}` must be between 0 and 1, got {defaults[name]}")
        super().__init__(params, defaults)
        if len(self.param_groups) != 1:
            raise ValueError(f"NNCG takes one parameter group, got {len(self.param_groups)}")
        _require_one_kind(self._parameters)

    @property
    def num_products(self) -> int:
        """Hessian-vector products of all steps so far."""
        return int(self.state.get(self._parameters[0], {}).get("num_products", 0))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one step and return the loss before it.

        Args:
            closure: zeroes the gradients, evaluates the loss, and its gradient with a graph; called once more for
                each trial of the line search.

        Raises:
            NotFiniteError: the loss, its gradient or a product with its Hessian is not finite.
            ValueError: there is no closure, or the gradients have no graph or were there before it.
        """
        if closure is None:
            raise ValueError("NNCG needs a closure that evaluates the loss and its gradient, got none")
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            raise ValueError(f"NNCG trains in one process, got {dist.get_world_size()}")
        if self._gradient_graphs():
            raise ValueError(
                "NNCG needs the whole gradient from its closure, got gradients that were accumulated before it: set "
                "`accumulate_grad_batches` to 1"
            )
        group, state = self.param_groups[0], self.state[self._parameters[0]]
        state.setdefault("step", 0)
        state.setdefault("num_products", 0)
        num_products = state["num_products"]
        with torch.enable_grad():
            loss = closure()
        value = float(loss)
        resolution = torch.finfo(loss.dtype if isinstance(loss, Tensor) else torch.float64).eps * abs(value)
        try:
            gradient = self._flat([parameter.grad for parameter in self._parameters])
            if not (math.isfinite(value) and bool(torch.isfinite(gradient).all())):
                raise NotFiniteError(f"NNCG needs a finite loss and gradient, got the loss {value:.3g} or its gradient")
            found = self._newton_direction(gradient, group, state)
        finally:
            # A gradient with a graph and its parameter hold each other: only the garbage collector would free them.
            for parameter in self._parameters:
                parameter.grad = None if parameter.grad is None else parameter.grad.detach()
        direction, slope = found.solution, float(gradient @ found.solution)
        steepest = not slope < 0
        if steepest:
            direction, slope = -gradient, -float(gradient @ gradient)
        step_size, num_trials = self._line_search(closure, group, value + resolution, direction, slope)
        state["step"] += 1
        self.last_step = NNCGStep(
            step_size=step_size,
            num_products=state["num_products"] - num_products,
            num_evaluations=1 + num_trials,
            relative_residual=found.relative_residual,
            negative_curvature=found.negative_curvature,
            steepest_descent=steepest,
        )
        return loss

    @property
    def _parameters(self) -> list[nn.Parameter]:
        parameters: list[nn.Parameter] = self.param_groups[0]["params"]
        return parameters

    def _newton_direction(self, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]) -> TruncatedSolution:
        """Return the solution of the damped Newton equation, by way of a new preconditioner when that is due."""
        hessian = self._hessian_product()
        if state["step"] % group["update_frequency"] == 0 or "vectors" not in state:
            rank = min(group["rank"], gradient.numel())
            made = nystrom_approximation(hessian, gradient, rank, seed=group["seed"] + state["step"])
            state["vectors"], state["values"] = made.vectors, made.values
            state["num_products"] += rank
        approximation, mu = NystromApproximation(state["vectors"], state["values"]), group["mu"]
        found = truncated_cg(
            lambda vector: hessian(vector) + mu * vector,
            -gradient,
            lambda vector: approximation.precondition(vector, mu),
            tolerance=group["cg_tolerance"],
            max_iterations=group["cg_max_iterations"],
        )
        state["num_products"] += found.num_products
        return found

    def _hessian_product(self) -> Product:
        """Return what maps v to Hv through the graph of the gradients."""
        parameters = self._parameters
        sizes = [parameter.numel() for parameter in parameters]
        graphs = self._gradient_graphs()
        if not graphs:
            raise ValueError(
                "NNCG needs gradients with a graph, got none: call `loss.backward(create_graph=True)` in the closure, "
                "and under automatic optimization in the LightningModule's `def backward(self, loss, *args, **kwargs): "
                "loss.backward(create_graph=self.optimizers(use_pl_optimizer=False).needs_gradient_graph, "
                "inputs=list(self.parameters()))`"
            )

        def product(vector: Tensor) -> Tensor:
            pieces = vector.split(sizes)
            outputs = [pieces[index].view_as(parameters[index]) for index in graphs]
            return self._flat(
                torch.autograd.grad(list(graphs.values()), parameters, outputs, retain_graph=True, allow_unused=True)
            )

        return product

    def _gradient_graphs(self) -> dict[int, Tensor]:
        """Return the gradients that have a graph, by the place of their parameter."""
        gradients = [parameter.grad for parameter in self._parameters]
        return {place: entry for place, entry in enumerate(gradients) if entry is not None and entry.requires_grad}

    def _line_search(
        self, closure: Callable[[], Any], group: dict[str, Any], value: float, direction: Tensor, slope: float
    ) -> tuple[float, int]:
        """Go along the direction as far as Armijo's condition allows; return the step size and the trials."""
        parameters = self._parameters
        before = [parameter.detach().clone() for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters]
        pieces = direction.split([parameter.numel() for parameter in parameters])
        step_size, accepted, num_trials = group["lr"], False, 0
        self.needs_gradient_graph = False
        try:
            while step_size > 0 and slope < 0 and num_trials < group["line_search_max_trials"]:
                with torch.no_grad():
                    for parameter, old, piece in zip(parameters, before, pieces, strict=True):
                        if parameter.grad is not None:
                            parameter.copy_(torch.add(old, piece.view_as(old), alpha=step_size))
                with torch.enable_grad():
                    trial = float(closure())
                num_trials += 1
                # Not true of a loss that isn't a number.
                accepted = trial <= value + group["line_search_decrease"] * step_size * slope
                if accepted:
                    break
                step_size *= group["line_search_shrinkage"]
        finally:
            self.needs_gradient_graph = True
            with torch.no_grad():
                for parameter, old, gradient in zip(parameters, before, gradients, strict=True):
                    parameter.grad = gradient
                    if not accepted:
                        parameter.copy_(old)
        return (step_size if accepted else 0.0), num_trials

    def _flat(self, pieces: Iterable[Tensor | None]) -> Tensor:
        return torch.cat(
            [
                torch.zeros_like(parameter).flatten() if piece is None else piece.detach().flatten()
                for parameter, piece in zip(self._parameters, pieces, strict=True)
            ]
        )


def _require_one_kind(parameters: list[nn.Parameter]) -> None:
    kinds = sorted({f"{parameter.dtype} on {parameter.device}" for parameter in parameters})
    if len(kinds) != 1 or parameters[0].dtype not in (torch.float32, torch.float64):
        raise ValueError(f"NNCG takes parameters of one dtype, float32 or float64, on one device, got {kinds}")
