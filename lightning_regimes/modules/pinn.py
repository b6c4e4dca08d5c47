"""The physics-informed neural network as a LightningModule."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn

from lightning_regimes.metrics.functional import relative_error
from lightning_regimes.modules.augmented_lagrangian import AugmentedLagrangian, Multipliers
from lightning_regimes.modules.corrected_field import corrected_field
from lightning_regimes.modules.curriculum import Curriculum
from lightning_regimes.modules.derivatives_enabled import derivatives_enabled, outside_inference
from lightning_regimes.modules.evaluation_points import EvaluationPoints
from lightning_regimes.modules.loss_terms import LossTerms
from lightning_regimes.modules.region_sampling import RegionSampling, TrustRegion
from lightning_regimes.modules.stored_configuration import as_class_path, as_fields
from lightning_regimes.networks import MLP
from lightning_regimes.optim import AdamFactory, OptimizerFactory
from lightning_regimes.pde import INTERIOR, Field, Problem

Batch = Mapping[str, Tensor]


class PINN(L.LightningModule):
    """A network trained to satisfy a differential equation and its conditions at collocation points.

    The loss is ``Σ_k w_k mean r_k²`` over the residual of the equation ("interior") and of each condition, by the names
    under which a batch of :class:`~lightning_regimes.datamodules.Collocation` holds their points. It works in ``fit``,
    ``validate``, ``test`` and ``predict`` without any flag of the Trainer.

    Logged are ``train/loss`` and ``train/<term>``, ``val/loss`` and, if the solution is known, ``val/rel_l2``, and the
    same for ``test``.

    Args:
        problem: the equation.
        network: map from ``(N, d)`` points to ``(N, m)`` values; by default an MLP with three hidden layers of 50 tanh.
        optimizer: by default Adam with rate 1e-3.
        weights: factor of each term of the loss, 1 where not given.
        constraints: how conditions are enforced. "soft" adds them to the loss; "hard" builds those that the problem can
            into the field (:meth:`Problem.ansatz`); "augmented_lagrangian" treats them by the method of multipliers.
        augmented_lagrangian: options of the latter.
        curriculum: raise the problem's coefficient during training.
        region_sampling: evaluate the equation in small regions around the points.
        num_heldout: interior points of :meth:`heldout_loss`.

    Raises:
        ValueError: a weight has no term, isn't positive, or can't apply; the problem has no ansatz for "hard".
    """

    model_family = "physics_informed"
    curriculum_stage: Tensor

    def __init__(
        self,
        problem: Problem,
        network: nn.Module | None = None,
        *,
        optimizer: OptimizerFactory | None = None,
        weights: dict[str, float] | None = None,
        constraints: Literal["soft", "hard", "augmented_lagrangian"] = "soft",
        augmented_lagrangian: AugmentedLagrangian | None = None,
        curriculum: Curriculum | None = None,
        region_sampling: RegionSampling | None = None,
        num_heldout: int = 2048,
    ) -> None:
        super().__init__()
        self.problem = problem
        self.network = network or MLP(len(problem.coordinates), problem.num_fields)
        self.optimizer_factory = optimizer or AdamFactory()
        self.constraints = constraints
        self.curriculum = curriculum
        self._save_configuration(
            problem=as_class_path(problem),
            network=as_class_path(self.network),
            optimizer=as_class_path(self.optimizer_factory),
            weights=weights,
            constraints=constraints,
            augmented_lagrangian=as_fields(augmented_lagrangian),
            curriculum=as_fields(curriculum),
            region_sampling=as_fields(region_sampling),
            num_heldout=num_heldout,
        )

        if constraints not in ("soft", "hard", "augmented_lagrangian"):
            raise ValueError(f'`constraints` must be "soft", "hard" or "augmented_lagrangian", got {constraints!r}.')
        if constraints == "hard" and not problem.exact_conditions:
            raise ValueError(f'`constraints="hard"` needs a problem with an ansatz; {type(problem).__name__} has none.')
        exact = problem.exact_conditions if constraints == "hard" else ()
        self.terms = LossTerms(problem, exact=exact, weights=weights)
        self.multipliers: Multipliers | None = None
        if constraints == "augmented_lagrangian":
            if set(weights or {}) - {INTERIOR}:
                raise ValueError('With constraints="augmented_lagrangian" only "interior" has a weight.')
            self.multipliers = Multipliers(self.terms.names[1:], augmented_lagrangian or AugmentedLagrangian())
        elif augmented_lagrangian is not None:
            raise ValueError(f'`augmented_lagrangian` needs constraints="augmented_lagrangian", got {constraints!r}.')
        self.trust_region: TrustRegion | None = None
        if region_sampling is not None:
            num_parameters = sum(parameter.numel() for parameter in self.network.parameters())
            self.trust_region = TrustRegion(num_parameters, region_sampling)

        self.register_buffer("curriculum_stage", torch.tensor(0))
        self.register_load_state_dict_post_hook(_enter_loaded_stage)
        self._points = EvaluationPoints(problem, num_heldout)
        self._enter(0)

    # ------------------------------------------------------------------ the field and its loss

    def forward(self, points: Tensor) -> Tensor:
        """Return the field at points ``(N, d)`` as ``(N, m)``."""
        return self._field(points)

    def plain_loss(self, batch: Batch, *, field: Field | None = None, problem: Problem | None = None) -> Tensor:
        """Return ``Σ_k w_k mean r_k²``, also with an augmented Lagrangian.

        Args:
            batch: points by the name of the term.
            field: the network's by default.
            problem: that of the current stage of the curriculum by default.
        """
        residuals = self.terms.residuals(problem or self.current_problem, field or self._field, batch)
        return self._total({name: self.terms.loss(name, entry) for name, entry in residuals.items()})

    def diagnostic_loss(self, batch: Batch) -> Tensor:
        """Return what training minimises on this batch: deterministic, without noise in the points or updates."""
        differentiable = torch.is_grad_enabled()
        with derivatives_enabled():
            loss = self._total(self._objective(outside_inference(batch)))
        return loss if differentiable else loss.detach()

    def loss_components(self, batch: Batch) -> dict[str, Tensor]:
        """Return the terms that :meth:`diagnostic_loss` is the sum of, by name, weights included."""
        with derivatives_enabled():
            return self._objective(outside_inference(batch))

    def trivial_loss(self, batch: Batch) -> Tensor:
        """Return the loss of the predictor ``u ≡ 0``, the scale on which other losses are read.

        It counts all conditions with "hard" constraints, too, where :meth:`plain_loss` has no terms for those that the
        field satisfies exactly: both are then the soft loss, one of the field and one of zero.
        """
        with derivatives_enabled():
            batch = outside_inference(batch)
            loss = self.plain_loss(batch, field=self._zero)
            points = {**self._points.heldout(self._like), **batch}
            for condition in self.current_problem.conditions:
                if condition.name not in self.terms.names:
                    loss = loss + condition.residual(self._zero, points[condition.name]).square().mean()
            return loss.detach()

    def heldout_loss(self) -> Tensor:
        """Return :meth:`plain_loss` on fixed points that training never sees."""
        with derivatives_enabled():
            return self.plain_loss(self._points.heldout(self._like)).detach()

    def reference_error(self) -> Tensor | None:
        """Return ``‖û − u‖₂ / ‖u‖₂`` on the problem's evaluation grid, for the current stage of the curriculum.

        None where the problem's solution isn't known.
        """
        return self._relative_error(self.current_problem)

    def estimated_error(self) -> Tensor | None:
        """Return an estimate of :meth:`reference_error` that needs no solution: the error against the corrected field.

        None where there is no corrected field, as far from a solution. An estimate above 1 says that this is no
        solution, and not how far one is.
        """
        with derivatives_enabled():
            fields = self._own_and_corrected_field()
            if fields is None:
                return None
            points = self._points.grid(self._double_like)
            own, corrected = (field(points).detach() for field in fields)
            return relative_error(own, corrected)

    def corrected_field(self) -> Field | None:
        """Return the field with the change that makes it satisfy equation and conditions on points never trained on.

        Where the network is near a solution, the corrected field is nearer by one or two orders, for the cost of some
        steps of training (:func:`~lightning_regimes.pde.field_correction`). It maps points ``(N, d)`` to ``(N, m)`` in
        float64, and is that of the network as it is now. None where no such change is found.
        """
        with derivatives_enabled():
            fields = self._own_and_corrected_field()
        return None if fields is None else fields[1]

    def field_on_grid(self) -> dict[str, Any]:
        """Return the field and the solution on the evaluation grid of a problem in two coordinates, for pictures.

        Returns:
            ``axis_0`` (n,) and ``axis_1`` (m,), the first field's ``prediction`` (n, m), its ``reference`` (n, m) if
            the solution is known and otherwise, where there is one, its ``estimated_error`` (n, m), and the
            ``axis_names``.
        """
        problem, shape = self.current_problem, self.current_problem.evaluation_grid
        points, solution = self._points.grid(self._like), self._points.solution(problem, self._like)
        with torch.no_grad():
            prediction = self._field(points)
        axes = points.reshape(*shape, -1)
        found = {
            "axis_0": axes[:, 0, 0],
            "axis_1": axes[0, :, 1],
            "prediction": prediction[:, 0].reshape(shape),
            "axis_names": problem.coordinates,
        }
        if solution is not None:
            return {**found, "reference": solution[:, 0].reshape(shape)}
        with derivatives_enabled():
            try:
                fields = self._own_and_corrected_field()
            except (ValueError, RuntimeError) as problem:
                rank_zero_warn(f"The field is drawn without an estimate of its error: {problem}")
                fields = None
            if fields is None:
                return found
            points = self._points.grid(self._double_like)
            own, corrected = (field(points).detach() for field in fields)
        return {**found, "estimated_error": (own - corrected)[:, 0].reshape(shape)}

    # ------------------------------------------------------------------ training and evaluation

    def on_fit_start(self) -> None:
        """Make what never changes now, so that no measurement during training pays for it."""
        self.heldout_loss()
        self.reference_error()

    def training_step(self, batch: Batch, batch_idx: int = 0) -> Tensor:
        """Return the loss and log it with its terms."""
        with derivatives_enabled():
            batch = outside_inference(batch)
            if self.trust_region is not None:
                interior = self.trust_region.sample(batch[INTERIOR], step=self.global_step)
                batch = {**batch, INTERIOR: interior}
            terms = self._objective(batch)
            loss = self._total(terms)
        if self._is_logged_step():
            self.log("train/loss", loss.detach(), prog_bar=True, batch_size=1)
            self.log_dict({f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=1)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """Log the loss on held-out points, for the problem that training aims at."""
        self._evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the relative error against the solution, if that is known."""
        self._log_error("val", prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int = 0) -> None:
        """Log the loss on held-out points."""
        self._evaluate("test", batch)

    def on_test_epoch_end(self) -> None:
        """Log the relative error against the solution, if that is known."""
        self._log_error("test")

    def predict_step(self, batch: Tensor | Batch, batch_idx: int = 0) -> Tensor:
        """Return the field at the points, or at the interior points of a training batch."""
        return self(batch if isinstance(batch, Tensor) else batch[INTERIOR])

    def configure_optimizers(self) -> Any:
        """Return what the optimizer factory makes of this module."""
        return self.optimizer_factory(self)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Evaluate the gradient, with its graph for an optimizer that says ``needs_gradient_graph`` (:class:`NNCG`)."""
        optimizers = self.optimizers(use_pl_optimizer=False)
        listed = optimizers if isinstance(optimizers, list) else [optimizers]
        if not any(getattr(optimizer, "needs_gradient_graph", False) for optimizer in listed):
            super().backward(loss, *args, **kwargs)
            return
        with warnings.catch_warnings():
            # Of gradients and parameters that hold each other; such an optimizer lets them go at the end of its step.
            warnings.filterwarnings("ignore", message="Using backward\\(\\) with create_graph=True")
            # No others: points that hold a gradient with its graph hold themselves, which Python's collector can't see.
            inputs = [parameter for parameter in self.parameters() if parameter.requires_grad]
            super().backward(loss, *args, **{**kwargs, "create_graph": True, "inputs": inputs})

    # ------------------------------------------------------------------ what changes between steps

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Enter the stage of the curriculum that this step belongs to."""
        if self.curriculum is not None:
            stage = self.curriculum.stage(self.global_step)
            if stage != self._stage:
                self.curriculum_stage.fill_(stage)
                self._enter(stage)
                self._forget_optimizer_state()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Show the gradient to the trust region."""
        if self.trust_region is not None:
            parts = [
                torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach()
                for parameter in self.network.parameters()
            ]
            self.trust_region.observe(torch.cat([part.reshape(-1) for part in parts]))

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Update the multipliers of the augmented Lagrangian when it's their turn."""
        if self.multipliers is None or self.global_step % self.multipliers.options.every_n_steps:
            return
        with derivatives_enabled():
            residuals = self.terms.residuals(self.current_problem, self._field, outside_inference(batch))
        self.multipliers.update({name: entry.detach() for name, entry in residuals.items() if name != INTERIOR})
        self._forget_optimizer_state()

    # ------------------------------------------------------------------ what guidance changes

    @property
    def has_difficulty(self) -> bool:
        """Whether the problem names a coefficient that makes it hard, which :meth:`set_difficulty` needs."""
        return self.problem.coefficient is not None

    def set_difficulty(self, share: float) -> None:
        """Train on an easier problem: its coefficient is ``share`` of the own one, or the own one over ``share``.

        Which of the two is easier is a matter of the problem. A share of 1 is the own problem.

        Raises:
            ValueError: the share isn't in (0, 1], or the module has a curriculum of its own.
        """
        if self.curriculum is not None:
            raise ValueError("`set_difficulty` needs a PINN without a `curriculum` of its own.")
        if not 0 < share <= 1:
            raise ValueError(f"`share` must be in (0, 1], got {share}.")
        if share == 1:
            self.current_problem = self.problem
            return
        value = self.problem.coefficient_value
        value = value / share if self.problem.coefficient_eases else value * share
        self.current_problem = self.problem.with_coefficient(value)

    def enforce_conditions(self, how: Literal["soft", "augmented_lagrangian"]) -> None:
        """Change how conditions are enforced from here on; multipliers start from zero.

        Raises:
            ValueError: conditions are built into the field, or have weights, which multipliers replace.
        """
        if how not in ("soft", "augmented_lagrangian"):
            raise ValueError(f'`how` must be "soft" or "augmented_lagrangian", got {how!r}.')
        if self.constraints == "hard":
            raise ValueError('`enforce_conditions` needs a PINN without constraints="hard".')
        if how == "augmented_lagrangian" and any(self.terms.weights[name] != 1 for name in self.terms.names[1:]):
            raise ValueError("`enforce_conditions` needs a PINN whose conditions have no weights.")
        self.constraints = how
        self.multipliers = None
        if how == "augmented_lagrangian":
            self.multipliers = Multipliers(self.terms.names[1:], AugmentedLagrangian()).to(self._like.device)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make the multipliers of a training that got them on the way."""
        stored = any(name.startswith("multipliers.") for name in checkpoint["state_dict"])
        if stored and self.multipliers is None:
            self.enforce_conditions("augmented_lagrangian")

    # ------------------------------------------------------------------ private

    def _enter(self, stage: int) -> None:
        self._stage = stage
        self.current_problem = self.problem if self.curriculum is None else self.curriculum.problem(self.problem, stage)

    def _field(self, points: Tensor) -> Tensor:
        if self.constraints == "hard":
            return self.current_problem.ansatz(self.network)(points)
        return self.network(points)

    def _own_and_corrected_field(self) -> tuple[Field, Field] | None:
        problem = self.current_problem
        ansatz = problem.ansatz if self.constraints == "hard" else None
        return corrected_field(self.network, problem, self.terms, ansatz=ansatz, device=self._double_like.device)

    def _zero(self, points: Tensor) -> Tensor:
        return torch.zeros_like(points[:, :1]).expand(-1, self.problem.num_fields)

    def _objective(self, batch: Batch) -> dict[str, Tensor]:
        residuals = self.terms.residuals(self.current_problem, self._field, batch)
        return {
            name: self.terms.loss(name, entry)
            if self.multipliers is None or name == INTERIOR
            else self.multipliers.term(name, entry)
            for name, entry in residuals.items()
        }

    @staticmethod
    def _total(terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(terms.values())).sum()

    def _is_logged_step(self) -> bool:
        # Handing values to Lightning costs as much as a third of a step, and L-BFGS calls this twenty times a step:
        # hand over those that are written, and the epoch's last for callbacks that monitor them.
        if self._trainer is None:
            return False
        trainer = self.trainer
        every = max(1, trainer.log_every_n_steps)  # type: ignore[attr-defined]
        return trainer.is_last_batch or (self.global_step + 1) % every == 0

    def _evaluate(self, stage: Literal["val", "test"], batch: Batch) -> None:
        with derivatives_enabled():
            loss = self.plain_loss(outside_inference(batch), problem=self.problem).detach()
        self.log(f"{stage}/loss", loss, prog_bar=True, batch_size=batch[INTERIOR].shape[0])

    def _log_error(self, stage: Literal["val", "test"], *, prog_bar: bool = False) -> None:
        error = self._relative_error(self.problem)
        if error is not None:
            self.log(f"{stage}/rel_l2", error, prog_bar=prog_bar)

    @torch.no_grad()
    def _relative_error(self, problem: Problem) -> Tensor | None:
        solution = self._points.solution(problem, self._like)
        if solution is None:
            return None
        return relative_error(self._field(self._points.grid(self._like)), solution)

    @property
    def _like(self) -> Tensor:
        # Not `self.dtype`: a diagnostic may have put parameters of another precision in the place of ours.
        return next(self.network.parameters())

    @property
    def _double_like(self) -> Tensor:
        # Apple's devices have no float64.
        device = self._like.device
        return torch.empty(0, dtype=torch.float64, device="cpu" if device.type == "mps" else device)

    def _forget_optimizer_state(self) -> None:
        # Moments and curvature pairs describe the objective of before; L-BFGS would mix two functions in one pair.
        optimizers = self.optimizers(use_pl_optimizer=False)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            optimizer.state.clear()

    def _save_configuration(self, **configuration: Any) -> None:
        given = {name: value for name, value in configuration.items() if value is not None}
        self.save_hyperparameters({**given, "_instantiator": "lightning.pytorch.cli.instantiate_module"})


def _enter_loaded_stage(module: PINN, _: Any) -> None:
    module._enter(int(module.curriculum_stage))
