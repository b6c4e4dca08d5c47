"""The top of the Hessian's spectrum, its trace and its lower end, while training goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import numpy as np
import torch
from torch import Tensor

from lightning_regimes.callbacks.block_measurement import expected_block_products, measure_block_structure
from lightning_regimes.callbacks.density_measurement import (
    DensityHistory,
    draw_density_map,
    measure_component_densities,
    measure_density,
)
from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.callbacks.product_time import seconds_of_product
from lightning_regimes.callbacks.shared_eigenpairs import EigenpairsNeeded, dominant_eigenpairs, forget_eigenpairs
from lightning_regimes.callbacks.stability_measurement import measure_stability, preconditions
from lightning_regimes.callbacks.theory_measurement import measure_against_theory
from lightning_regimes.curvature import HessianOperator, gap_index, trace
from lightning_regimes.probe import LossProbe
from lightning_regimes.recording import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Eigenvectors of earlier steps save products only while they still point the same way.
_WARM_STEPS = 20
# Of the eigenvalues in a picture.
_MAX_LABELS = 10
# What the largest eigenvalue of a preconditioned Hessian takes, as measured.
_PRECONDITIONED_PRODUCTS = 17
# A warm start can follow an eigenvector that is no longer among the first; a cold one now and then finds out.
_WARM_RUNS = 10


class HessianSpectrum(Diagnostic):
    r"""Records :math:`\lambda_1 \ge \dots \ge \lambda_k`, :math:`\lambda_\min` and the trace of the Hessian.

    Beside them: how far the sharpness is from the stability threshold of the optimizer (:math:`\lambda_1` against 2/η
    for gradient descent, Cohen et al., arXiv:2103.00065; for Adam and its like the largest eigenvalue of the
    preconditioned Hessian, Cohen et al., arXiv:2207.14484), where the spectrum has its largest gap, residuals and
    standard errors, and what it took in matrix-vector products. The density of all eigenvalues, if asked for, is
    recorded as the nodes and weights of its quadrature, from which any smoothing can be made later, and on a grid of
    signed logarithms of its own (:func:`~lightning_regimes.signed_log_density.signed_log_density`).

    Args:
        k: number of top eigenvalues.
        tol: relative residual at which they count as converged; their error is about its square.
        num_trace_samples: random vectors for the part of the trace that the top eigenvalues leave; 0 for no trace.
        resolve_minimum: spend what it takes for :math:`\lambda_\min` to converge as well. Otherwise it comes from the
            same Krylov space, as an upper bound with its residual.
        certify: search again until nothing new is found, so that a multiple eigenvalue counts as often as it is there.
        density_vectors: random vectors for the density of all eigenvalues, at least 2; 0 for no density.
        density_steps: products that each of them takes.
        component_densities: the density of each term of the loss as well, where the module offers
            ``loss_components(batch)``, a mapping from names to scalars that sum to the loss.
        row_blocks: for each weight matrix, the share of its Hessian that lies within its rows
            (:func:`~lightning_regimes.curvature.block_structure`), for 16 products a matrix.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.
    """

    name: ClassVar[str] = "hessian"

    def __init__(
        self,
        k: int = 5,
        *,
        tol: float = 1e-3,
        num_trace_samples: int = 10,
        resolve_minimum: bool = False,
        certify: bool = False,
        density_vectors: int = 0,
        density_steps: int = 64,
        component_densities: bool = False,
        row_blocks: bool = False,
        **options: Any,
    ) -> None:
        if k < 1:
            raise ValueError(f"`k` is at least 1, got {k}")
        if not 0 < tol < 1:
            raise ValueError(f"`tol` lies between 0 and 1, got {tol}")
        if num_trace_samples < 0 or num_trace_samples == 1:
            raise ValueError(
                f"`num_trace_samples` is 0 or at least 2, which a standard error takes, got {num_trace_samples}"
            )
        if density_vectors < 0 or density_vectors == 1:
            raise ValueError(
                f"`density_vectors` is 0 or at least 2, which a standard error takes, got {density_vectors}"
            )
        if density_steps < 2:
            raise ValueError(f"`density_steps` is at least 2, got {density_steps}")
        if component_densities and not density_vectors:
            raise ValueError("`component_densities` needs `density_vectors` of at least 2, 10 for instance")
        self.k = k
        self.tol = tol
        self.num_trace_samples = num_trace_samples
        self.resolve_minimum = resolve_minimum
        self.certify = certify
        self.density_vectors = density_vectors
        self.density_steps = density_steps
        self.component_densities = component_densities
        self.row_blocks = row_blocks
        super().__init__(**options)

    def reset(self) -> None:
        """Forget everything about a training."""
        super().reset()
        self._vectors: Tensor | None = None
        self._vectors_step = 0
        self._num_warm_runs = 0
        self._history: list[tuple[int, list[float]]] = []
        self._density_history = DensityHistory()
        self._num_components = 0
        self._num_further_products = 0
        self._parameters: list[Tensor] = []

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Require at least ``k`` parameters."""
        if self.k > num_parameters:
            raise ValueError(
                f"`k`={self.k} eigenvalues of a Hessian with {num_parameters} parameters do not exist; lower `k`"
            )
        if self.component_densities and not callable(getattr(pl_module, "loss_components", None)):
            raise ValueError(
                f"`component_densities` needs a method `loss_components(batch)` of {type(pl_module).__name__} that "
                "returns the terms of the loss by name"
            )

    @property
    def eigenpairs_needed(self) -> EigenpairsNeeded:
        """What other diagnostics may search for in passing."""
        return EigenpairsNeeded(self.k, self.tol, self.certify, self.resolve_minimum)

    def expected_units(self) -> int:
        """Products for the eigenvalues, as measured on networks of all kinds, the trace, the density and the graph."""
        eigenvalues = (14 + 3 * self.k) * (5 if self.certify else 3) // 3
        density = self.density_vectors * self.density_steps * (1 + self._num_components)
        return eigenvalues + self.num_trace_samples + density + self._num_further_products

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Return the time of a product, and count those that the options ask for."""
        if self.component_densities:
            self._num_components = len(_component_names(probe, pl_module))
        self._num_further_products = _PRECONDITIONED_PRODUCTS if preconditions(self.optimizers(trainer)) else 0
        if self.row_blocks:
            self._num_further_products += expected_block_products(probe)
        return seconds_of_product(probe)

    def probe(self, pl_module: L.LightningModule) -> LossProbe:
        """Return a probe, and remember the parameters that the optimizer knows it by."""
        probe = super().probe(pl_module)
        named = dict(pl_module.named_parameters())
        self._parameters = [named[name] for name in probe.parameters]
        return probe

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Compute the spectrum and put the optimizer beside it."""
        with HessianOperator(probe) as operator:
            pairs, searched_by = dominant_eigenpairs(
                self,
                trainer,
                operator,
                start=self._start(trainer.global_step),
            )
            values = pairs.values.double().cpu().numpy()
            residuals = _relative(pairs.residuals.double().cpu().numpy(), values)
            scalars = {f"hessian/lambda_{index}": float(value) for index, value in enumerate(values, start=1)}
            scalars |= {
                "hessian/lambda_min": pairs.opposite_value,
                "hessian/lambda_min_residual": pairs.opposite_residual,
                "hessian/residual_max": float(residuals.max()),
                "hessian/converged": float(pairs.converged),
            }
            if self.num_trace_samples:
                estimate = trace(operator, method="deflated", num_samples=self.num_trace_samples, eigenpairs=pairs)
                scalars |= {
                    "hessian/trace": estimate.value,
                    "hessian/trace_standard_error": estimate.standard_error,
                }
            density = Measurement()
            if self.density_vectors:
                density = measure_density(operator, num_vectors=self.density_vectors, num_steps=self.density_steps)
            stability = measure_stability(
                operator, self.optimizers(trainer), self._parameters, sharpness=float(values[0]), tol=self.tol
            )
            scalars["hessian/num_matvecs"] = operator.num_matvecs
        blocks = Measurement()
        if self.row_blocks:
            blocks, num_matvecs = measure_block_structure(probe)
            scalars["hessian/num_matvecs"] += num_matvecs
        components = Measurement()
        if self.component_densities:
            components, num_matvecs = self._measure_components(probe, pl_module)
            scalars["hessian/num_matvecs"] += num_matvecs
        theory = measure_against_theory(pl_module, values)
        self._keep(pairs.vectors, trainer.global_step)
        if values[0] > 0:
            scalars["hessian/negative_ratio"] = max(-pairs.opposite_value, 0.0) / float(values[0])
        if self.k > 1:
            index = gap_index(pairs.values)
            scalars["hessian/gap_index"] = index
            if 0 < index < self.k and values[index] != 0:
                scalars["hessian/gap_ratio"] = float(values[index - 1] / values[index])
        self._history.append((trainer.global_step, [float(value) for value in values]))
        history, threshold = list(self._history), stability.scalars.get("hessian/stability_threshold")
        rows = [(i, float(a), float(b)) for i, (a, b) in enumerate(zip(values, residuals, strict=True), start=1)]
        figures = {"hessian/spectrum": lambda: draw_spectrum(history, threshold), **blocks.figures}
        if density.arrays:
            self._density_history.append(trainer.global_step, density.arrays)
            densities = list(self._density_history.entries)
            figures["hessian/density_map"] = lambda: draw_density_map(densities)
        context = {"mode": self.mode, "loss_source": probe.loss_source, "k": self.k, "tol": self.tol}
        context |= {"eigenpairs": searched_by, **stability.context}
        return Measurement(
            scalars={**scalars, **stability.scalars, **components.scalars, **blocks.scalars, **theory.scalars},
            arrays={"hessian/eigenvalues": values, **density.arrays, **components.arrays, **theory.arrays},
            context={**context, **density.context, **components.context},
            figures=figures,
            histograms=("hessian/eigenvalues",),
            tables={
                "hessian/eigenpairs": Table(("index", "eigenvalue", "relative residual"), rows),
                **components.tables,
                **blocks.tables,
            },
        )

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let go of the eigenpairs that were shared at the last step."""
        forget_eigenpairs(trainer, unless_current=True)
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Let go of the last eigenpairs and of the module's parameters."""
        super().teardown(trainer, pl_module, stage)
        forget_eigenpairs(trainer)
        self._parameters = []

    def state_dict(self) -> dict[str, Any]:
        """The schedule, and the eigenvalues and densities so far."""
        histories = {"eigenvalue_history": list(self._history), "density_history": list(self._density_history.entries)}
        return super().state_dict() | histories

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        super().load_state_dict(state_dict)
        self._history = [(step, list(values)) for step, values in state_dict["eigenvalue_history"]]
        self._density_history.entries = list(state_dict["density_history"])

    def _measure_components(self, probe: LossProbe, pl_module: L.LightningModule) -> tuple[Measurement, int]:
        def probe_of(name: str) -> LossProbe:
            return probe.with_loss(lambda module, batch: module.loss_components(batch)[name])

        names = _component_names(probe, pl_module)
        return measure_component_densities(
            probe_of, names, num_vectors=self.density_vectors, num_steps=self.density_steps
        )

    def _start(self, step: int) -> Tensor | None:
        if self._vectors is None or step - self._vectors_step > _WARM_STEPS or self._num_warm_runs >= _WARM_RUNS:
            self._num_warm_runs = 0
            return None
        self._num_warm_runs += 1
        return self._vectors

    def _keep(self, vectors: Tensor, step: int) -> None:
        # With one or two vectors a warm start can lock onto the wrong eigenvector where eigenvalues cross.
        if self.every_n_steps is not None and self.every_n_steps <= _WARM_STEPS and self.k >= 3:
            self._vectors, self._vectors_step = vectors, step


def _component_names(probe: LossProbe, pl_module: Any) -> list[str]:
    names: list[str] = []

    def total(batch: Any) -> Tensor:
        components = pl_module.loss_components(batch)
        names[:] = components
        return torch.stack(list(components.values())).sum()

    probe.average(total)
    return names


def _relative(residuals: np.ndarray, values: np.ndarray) -> np.ndarray:
    return residuals / np.maximum(np.abs(values), np.finfo(np.float64).tiny)


def draw_spectrum(history: list[tuple[int, list[float]]], threshold: float | None) -> Figure:
    """Draw eigenvalues over steps; the line at which the optimizer stops being stable, if there is one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    steps = [step for step, _ in history]
    for index in range(max(len(values) for _, values in history)):
        values = [values[index] if index < len(values) else float("nan") for _, values in history]
        label = f"λ{index + 1}" if index < _MAX_LABELS else None
        axes.plot(steps, values, marker="o", markersize=3, label=label)
    if threshold is not None:
        axes.axhline(threshold, color="0.4", linestyle="--", label="stability threshold")
    axes.set(xlabel="optimizer step", ylabel="eigenvalue", yscale="symlog", title="top of the Hessian's spectrum")
    axes.legend(fontsize="small")
    return figure
