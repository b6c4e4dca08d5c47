"""When a curriculum goes on to the next coefficient."""

from __future__ import annotations

from dataclasses import dataclass

# Held-out loss of a stage that generalizes, in units of the training loss at which it is fitted.
_GENERALIZES = 3.0


@dataclass(frozen=True)
class CurriculumSchedule:
    """When a curriculum goes on to the next coefficient.

    Attributes:
        num_stages: number of coefficients, the target included.
        fitted: normalized loss at which a stage has done its work.
        gradients_per_stage: after which it ends anyway.
    """

    num_stages: int
    fitted: float
    gradients_per_stage: int

    def is_spent(self, gradients: int) -> bool:
        """Whether a stage has had its share of the gradients."""
        return gradients >= self.gradients_per_stage

    def is_over(self, normalized_loss: float, gradients: int) -> bool:
        """Whether a stage ends, from the loss after its last step and the gradients that it has taken."""
        return normalized_loss <= self.fitted or self.is_spent(gradients)

    def generalizes(self, normalized_heldout_loss: float | None) -> bool:
        """Whether what is fitted on the points of a stage is fitted elsewhere, taken as true while nothing is known."""
        return normalized_heldout_loss is None or normalized_heldout_loss <= _GENERALIZES * self.fitted

    @classmethod
    def within(
        cls, remaining: float, *, num_stages: int, fitted: float, gradients_per_stage: int
    ) -> CurriculumSchedule:
        """Return a schedule that leaves a quarter of the remaining gradients to the target."""
        affordable = 0.75 * remaining / num_stages
        return cls(num_stages, fitted, int(max(1, min(gradients_per_stage, affordable))))
