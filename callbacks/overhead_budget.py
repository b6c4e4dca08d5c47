"""How often a diagnostic may run, so that it costs a promised share of the training time."""

from __future__ import annotations

import math
from dataclasses import dataclass

# A training whose steps become faster is noticed after so many of them.
_MOST_BATCHES_BETWEEN_LOOKS = 100


@dataclass
class OverheadBudget:
    """Grants a measurement when the share of training time saved up for it covers its predicted cost.

    All times are in seconds and given from outside; nothing here reads a clock. The first prediction comes from a
    *trial* (one unit of the diagnostic's work, say one matrix-vector product), the later ones from the last
    measurement.

    Attributes:
        fraction: share of the training time that the diagnostic may take; zero never grants anything.
        training: time spent training so far, diagnostics not counted.
        spent: time this diagnostic has taken so far.
        prediction: what one measurement is expected to take, once known.
    """

    fraction: float
    training: float = 0.0
    spent: float = 0.0
    prediction: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.fraction < math.inf:
            raise ValueError(
                f"`overhead_budget` is a non-negative fraction of the training time, such as 0.05, got {self.fraction}"
            )

    @property
    def accrued(self) -> float:
        """What the diagnostic may still take by now; negative when it has taken more than its share."""
        return self.fraction * self.training - self.spent

    @property
    def overhead(self) -> float:
        """Time taken so far over training time so far."""
        return self.spent / self.training if self.training > 0 else 0.0

    def grants_trial(self, cost: float) -> bool:
        """Whether nothing is known yet and what has accrued covers a trial that takes about ``cost``."""
        return self.fraction > 0 and self.prediction is None and self.accrued > cost

    def grants_measurement(self) -> bool:
        """Whether what has accrued covers the prediction."""
        return self.fraction > 0 and self.prediction is not None and self.accrued >= self.prediction

    def batches_until_look(self, cost: float, num_batches: int) -> int:
        """Return after how many batches to ask again for a cost that what has accrued doesn't cover.

        Args:
            cost: in seconds.
            num_batches: how many there were so far.
        """
        accrued_per_batch = self.fraction * self.training / num_batches
        if accrued_per_batch <= 0:
            return 1
        # Half of the way, since batches may become slower.
        wait = round((cost - self.accrued) / (2 * accrued_per_batch))
        return min(max(wait, 1), _MOST_BATCHES_BETWEEN_LOOKS)

    def tried(self, *, seconds: float, unit: float, units: int) -> None:
        """Predict from a trial that took so long: a measurement is ``units`` units of ``unit`` seconds."""
        self.spent += seconds
        self.prediction = units * unit

    def measured(self, seconds: float) -> None:
        """Account for a measurement and expect the next one to cost the same."""
        self.spent += seconds
        self.prediction = seconds
