"""The neural ordinary differential equation as a LightningModule."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from lightning_regimes.metrics import RelativeL2, relative_error
from lightning_regimes.modules.derivatives_enabled import derivatives_enabled, outside_inference
from lightning_regimes.modules.ode_solver import IntegrationError, ODESolver, VectorField, explained_failures
from lightning_regimes.modules.physics_penalty import PhysicsPenalty
from lightning_regimes.modules.stored_configuration import as_class_path, as_fields
from lightning_regimes.networks import MLP
from lightning_regimes.optim import AdamFactory, OptimizerFactory
from lightning_regimes.pde import ODESystem

Batch = Mapping[str, Tensor]


class NeuralODE(L.LightningModule):
    """A network ``f_θ`` for the right-hand side of ``ẏ = f(y)``, trained on trajectories.

    The loss is the mean square of ``ŷ(t) − y(t)`` over the later times of a batch ``{"times": (N, T), "states":
    (N, T, n)}``, where ``ŷ`` starts from the first states: over segments or over whole trajectories, as the batch has
    them (:class:`~lightning_regimes.datamodules.ODETrajectories`). A known system can add a penalty.

    Logged are ``train/loss`` (with a penalty also ``train/data`` and ``train/physics``), ``val/loss``,
    ``val/rollout_rel_l2`` and the same for ``test``. The rollout error ``‖ŷ − y‖₂ / ‖y‖₂`` over whole trajectories from
    other initial states is what ``RegimeDetection`` reads. 0.1 is a usual threshold for it.

    Training may use the adjoint equation. Diagnostics differentiate through the solver, because they need second
    derivatives, which the adjoint equation of ``torchdiffeq`` does not have.

    Args:
        system: the equations that the data come from, if they are known; needed for a penalty, and for datamodules
            that are given none.
        network: map from ``(N, n)`` states to ``(N, n)`` velocities; by default an MLP with three hidden layers of 16
            tanh for the states of ``system``.
        solver: by default fourth-order Runge–Kutta with one step from each time to the next.
        optimizer: by default Adam with rate 1e-3.
        physics: a penalty for what is known about ``system``.

    Raises:
        ValueError: neither a system nor a network is given, or a penalty without a system.

    References:
        R. T. Q. Chen, Y. Rubanova, J. Bettencourt, D. Duvenaud, "Neural ordinary differential equations", NeurIPS 2018,
        arXiv:1806.07366.
    """

    model_family = "neural_ode"
    penalty_states: Tensor | None

    def __init__(
        self,
        system: ODESystem | None = None,
        network: nn.Module | None = None,
        *,
        solver: ODESolver | None = None,
        optimizer: OptimizerFactory | None = None,
        physics: PhysicsPenalty | None = None,
    ) -> None:
        super().__init__()
        if network is None:
            if system is None:
                raise ValueError("NeuralODE needs a `network`, or a `system` for whose states it makes one.")
            network = MLP(system.num_states, system.num_states, hidden_sizes=(16, 16, 16))
        if physics is not None and system is None:
            raise ValueError("`physics` needs the `system` that it knows about.")
        self.system = system
        self.network = network
        self.solver = solver or ODESolver()
        self.optimizer_factory = optimizer or AdamFactory()
        self.physics = physics
        states = None if physics is None or system is None or not physics.num_states else physics.states(system)
        # Fixed by the arguments, hence no part of a checkpoint.
        self.register_buffer(
            "penalty_states", None if states is None else states.to(torch.get_default_dtype()), persistent=False
        )
        self.val_rollout = RelativeL2()
        self.test_rollout = RelativeL2()
        self._heldout: Batch | None = None
        self._rollouts: Batch | None = None
        configuration = {
            "system": as_class_path(system),
            "network": as_class_path(network),
            "solver": as_fields(self.solver),
            "optimizer": as_class_path(self.optimizer_factory),
            "physics": as_fields(physics),
        }
        given = {name: value for name, value in configuration.items() if value is not None}
        self.save_hyperparameters({**given, "_instantiator": "lightning.pytorch.cli.instantiate_module"})

    # ------------------------------------------------------------------ trajectories and their loss

    def field(self, states: Tensor) -> Tensor:
        """Return the velocities ``f_θ(y)``, ``(N, n)``."""
        velocities: Tensor = self.network(states)
        return velocities

    def forward(self, initial: Tensor, times: Tensor) -> Tensor:
        """Return the trajectories from ``(N, n)`` initial states at times ``(N, T)`` or ``(T,)``, ``(N, T, n)``.

        Gradients go through the solver.
        """
        return self.solver.solve(self.field, initial, times.expand(len(initial), -1) if times.dim() == 1 else times)

    def diagnostic_loss(self, batch: Batch) -> Tensor:
        """Return the training loss of a batch, differentiable twice, also where training uses the adjoint equation."""
        return self._total(self.loss_components(batch))

    def loss_components(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms that :meth:`diagnostic_loss` is the sum of: "data" and, with a penalty, "physics"."""
        return self._terms(batch, self.field, adjoint=False)

    def trivial_loss(self, batch: Batch) -> Tensor:
        """Return the loss of a field that is zero, the scale on which other losses are read.

        Over a short segment states stay where they start; over a long trajectory their mean is closer. The smaller loss
        of the two is the scale.
        """
        states = batch["states"]
        stays = _mean_square(states[:, :1].expand_as(states), batch)
        mean = _mean_square(states[:, 1:].mean(dim=(0, 1)).expand_as(states), batch)
        return self._total({**self._penalty(batch, torch.zeros_like), "data": torch.minimum(stays, mean)}).detach()

    def heldout_loss(self) -> Tensor | None:
        """Return the loss on whole trajectories of validation; None if the datamodule has no ``rollout_batch``.

        On segments it would say little about rollouts, over which small errors of the velocity add up.
        """
        return None if self._heldout is None else self._evaluated_loss(self._like_network(self._heldout))

    def heldout_trivial_loss(self) -> Tensor | None:
        """Return :meth:`trivial_loss` of what :meth:`heldout_loss` looks at."""
        return None if self._heldout is None else self.trivial_loss(self._like_network(self._heldout))

    def reference_error(self) -> Tensor | None:
        """Return ``‖ŷ − y‖₂ / ‖y‖₂`` of whole trajectories from initial states that training never sees.

        It is infinite where a trajectory leaves the finite numbers or the solver gives up, and None if the datamodule
        has no ``rollout_batch``.
        """
        return self._rollout_error(self._rollouts)

    def estimated_error(self) -> Tensor | None:
        """Return the same of the trajectories of validation, an estimate of :meth:`reference_error`.

        It says more than :meth:`heldout_loss`, which has another scale and another threshold. Trajectories with noise
        add theirs.
        """
        return self._rollout_error(self._heldout)

    # ------------------------------------------------------------------ training and evaluation

    def on_fit_start(self) -> None:
        """Take what the datamodule holds out, and say how diagnostics differ from training."""
        datamodule = getattr(self.trainer, "datamodule", None)
        rollouts = getattr(datamodule, "rollout_batch", None)
        self._heldout, self._rollouts = (rollouts("val"), rollouts("test")) if callable(rollouts) else (None, None)
        if self.solver.adjoint:
            rank_zero_info(
                "NeuralODE trains by the adjoint equation; diagnostics differentiate through the solver instead, as "
                "second derivatives need it, which takes more memory."
            )

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the loss and log it, with its terms where there are two."""
        # The adjoint equation leaves no graph of the gradient, which Newton steps need.
        adjoint = self.solver.adjoint and not self._gradient_needs_graph()
        terms = self._terms(batch, self.field, adjoint=adjoint)
        loss = self._total(terms)
        self.log("train/loss", loss.detach(), prog_bar=True, batch_size=len(batch["states"]))
        if len(terms) > 1:
            logged = {f"train/{name}": term.detach() for name, term in terms.items()}
            self.log_dict(logged, batch_size=len(batch["states"]))
        return loss

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Evaluate the gradient, with its graph for an optimizer that says ``needs_gradient_graph`` (:class:`NNCG`).

        An adjoint equation that can't be solved is explained.
        """
        with explained_failures(self.solver.method), warnings.catch_warnings():
            if self._gradient_needs_graph():
                # Of gradients and parameters that hold each other; such an optimizer lets them go after its step.
                warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
                kwargs = {**kwargs, "create_graph": True}
            super().backward(loss, *args, **kwargs)

    def validation_step(self, batch: Batch, batch_idx: int = 0, dataloader_idx: int = 0) -> None:
        """Log the loss on the first loader, and the error of whole trajectories on the second."""
        if dataloader_idx == 0:
            self._log("val/loss", self._evaluated_loss(batch), batch)
        else:
            self.val_rollout.update(self._rollout(batch), batch["states"])
            self._log("val/rollout_rel_l2", self.val_rollout, batch)

    def test_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """Log the loss over whole trajectories, and their relative error."""
        prediction = self._rollout(batch)
        self._log("test/loss", _mean_square(prediction, batch), batch)
        self.test_rollout.update(prediction, batch["states"])
        self._log("test/rollout_rel_l2", self.test_rollout, batch)

    def predict_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the trajectories from the first states of a batch at its times, ``(N, T, n)``."""
        return self(batch["states"][:, 0], batch["times"])

    def configure_optimizers(self) -> Any:
        """Return what the optimizer factory makes of this module."""
        return self.optimizer_factory(self)

    # ------------------------------------------------------------------ private

    def _gradient_needs_graph(self) -> bool:
        if self._trainer is None:
            return False
        optimizers = self.optimizers(use_pl_optimizer=False)
        listed = optimizers if isinstance(optimizers, list) else [optimizers]
        return any(getattr(optimizer, "needs_gradient_graph", False) for optimizer in listed)

    def _terms(self, batch: Batch, field: VectorField, *, adjoint: bool) -> dict[str, Tensor]:
        parameters = [entry for entry in self.network.parameters() if entry.requires_grad] if adjoint else None
        initial, times = batch["states"][:, 0], batch["times"]
        prediction = self.solver.solve(field, initial, times, adjoint_parameters=parameters)
        return {"data": _mean_square(prediction, batch), **self._penalty(batch, field)}

    def _penalty(self, batch: Batch, field: VectorField) -> dict[str, Tensor]:
        if self.physics is None or self.system is None:
            return {}
        differentiable = torch.is_grad_enabled()
        with derivatives_enabled():
            states = batch["states"] if self.penalty_states is None else self.penalty_states
            states = outside_inference({"states": states})["states"]
            penalty = self.physics.loss(self.system, field, states)
        return {"physics": penalty if differentiable else penalty.detach()}

    @staticmethod
    def _total(terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(terms.values())).sum()

    @torch.no_grad()
    def _evaluated_loss(self, batch: Batch) -> Tensor:
        try:
            return self._total(self.loss_components(batch))
        except IntegrationError as error:
            rank_zero_warn(f"The held-out loss counts as infinite. {error}")
            return batch["states"].new_tensor(torch.inf)

    @torch.no_grad()
    def _rollout(self, batch: Batch) -> Tensor:
        states = batch["states"]
        try:
            return self(states[:, 0], batch["times"]).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        except IntegrationError as error:
            rank_zero_warn(f"The error of a rollout counts as infinite. {error}")
            return torch.full_like(states, torch.inf)

    def _rollout_error(self, batch: Batch | None) -> Tensor | None:
        if batch is None:
            return None
        batch = self._like_network(batch)
        return relative_error(self._rollout(batch), batch["states"])

    def _like_network(self, batch: Batch) -> Batch:
        # Not `self.dtype`: a diagnostic may have put parameters of another precision in the place of ours.
        like = next(self.network.parameters())
        return {name: entry.to(like) for name, entry in batch.items()}

    def _log(
        self,
        name: Literal["val/loss", "val/rollout_rel_l2", "test/loss", "test/rollout_rel_l2"],
        value: Any,
        batch: Batch,
    ) -> None:
        self.log(name, value, prog_bar=True, batch_size=len(batch["states"]), add_dataloader_idx=False)


def _mean_square(prediction: Tensor, batch: Batch) -> Tensor:
    """Return the mean square of the deviation over all times but the first, at which there is none."""
    return (prediction[:, 1:] - batch["states"][:, 1:]).square().mean()
