"""A schedule from an easy equation to the hard one."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_regimes.pde import Problem


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Train on easier coefficients first: ``start + (target − start) (k + 1) / num_stages`` in stage ``k``.

    The target is the problem's own coefficient; it's reached in the last stage and kept from then on.

    Attributes:
        start: coefficient just before the first stage.
        num_stages: number of coefficients, the target included.
        steps_per_stage: optimizer steps on each.

    Raises:
        ValueError: a number is below 1.

    References:
        A. Krishnapriyan et al., "Characterizing possible failure modes in physics-informed neural networks",
        NeurIPS 2021, arXiv:2109.01050, section 5.1.
    """

    start: float = 0.0
    num_stages: int = 20
    steps_per_stage: int = 20

    def __post_init__(self) -> None:
        for name in ("num_stages", "steps_per_stage"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")

    def stage(self, step: int) -> int:
        """Return the stage that optimizer step ``step`` belongs to."""
        return min(step // self.steps_per_stage, self.num_stages - 1)

    def problem(self, target: Problem, stage: int) -> Problem:
        """Return the problem of a stage; the last one is the target itself."""
        if stage >= self.num_stages - 1:
            return target
        share = (stage + 1) / self.num_stages
        return target.with_coefficient(self.start + (target.coefficient_value - self.start) * share)
