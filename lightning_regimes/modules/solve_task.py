"""Learning to precondition conjugate gradients."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lightning_regimes.modules.spectral_task import SpectralTask
from lightning_regimes.spectral.conjugate_gradients import cg
from lightning_regimes.spectral.operator_forms import TensorOperator
from lightning_regimes.spectral.polynomial_preconditioner import PolynomialPreconditioner
from lightning_regimes.spectral.recurrence_engine import Base, RecurrenceEngine
from lightning_regimes.spectral.residual_recurrence import ResidualRecurrence
from lightning_regimes.spectral.solve_loss import plain_cg_loss, unrolled_cg_loss
from lightning_regimes.spectral.spectral_probe import lanczos_probe
from lightning_regimes.spectral.spectrum_batch import SpectrumBatch


class SolveTask(SpectralTask):
    """Coefficients of a :class:`ResidualRecurrence` that precondition conjugate gradients.

    On a real operator it measures ``reduction``, the iterations without a preconditioner over those with it,
    ``efficiency``, that over the degree, which is at most about 1, ``ratio_to_base``, the iterations over those with
    the classical rule, and ``fallbacks``.

    Args:
        degree: d.
        probe_size: Ritz values of a probe.
        width: of the engine.
        base: the rule that is corrected.
        steps: iterations that are unrolled.
        seed: of the engine's weights.

    Raises:
        ValueError: there are no steps.
    """

    def __init__(self, degree: int, probe_size: int, width: int, *, base: Base, steps: int, seed: int) -> None:
        if steps < 1:
            raise ValueError(f"`steps` is at least 1, got {steps}")
        self.steps = steps
        self.engine = RecurrenceEngine(degree, probe_size=probe_size, width=width, base=base, seed=seed)
        self.base = copy.deepcopy(self.engine).requires_grad_(False)

    def loss(self, engine: nn.Module, batch: SpectrumBatch, generator: torch.Generator | None = None) -> Tensor:
        """Return the mean logarithm of the iterations, see :func:`unrolled_cg_loss`."""
        recurrence: ResidualRecurrence = engine(batch.probe)
        return unrolled_cg_loss(recurrence, batch.eigenvalues, batch.right_hand_side, batch.upper, num_steps=self.steps)

    def trivial_loss(self, batch: SpectrumBatch) -> Tensor:
        """Return the mean logarithm of the iterations without a preconditioner."""
        return plain_cg_loss(batch.eigenvalues, batch.right_hand_side, num_steps=self.steps)

    def measure(self, operator: TensorOperator, vector: Tensor, seed: int) -> dict[str, float]:
        """Return reduction, efficiency, ratio to the base and the number of fall-backs."""
        engine = self.engine
        assert isinstance(engine, RecurrenceEngine)
        probe = lanczos_probe(operator, num_steps=engine.probe_size, seed=seed)
        iterations, fallbacks = [], 0
        for rule in (engine, self.base):
            preconditioner = PolynomialPreconditioner(operator, degree=engine.degree, rule=rule, probe=probe)
            iterations.append(cg(operator, vector, preconditioner=preconditioner).num_iterations)
            fallbacks += preconditioner.num_fallbacks if rule is engine else 0
        reduction = cg(operator, vector).num_iterations / iterations[0]
        return {
            "reduction": reduction,
            "efficiency": reduction / engine.degree,
            "ratio_to_base": iterations[0] / iterations[1],
            "fallbacks": float(fallbacks),
        }
