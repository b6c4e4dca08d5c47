"""The relative error of fields as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_regimes.metrics.functional import check_norm, error_power_sums, ratio_of_norms


class RelativeL2(Metric):
    """The relative error ``‖û − u‖_p / ‖u‖_p`` over all elements that were seen, accumulated in float64.

    Batches, devices and the order of updates don't matter: numerator and denominator are summed before the ratio is
    taken. A prediction that isn't finite makes the result not finite.

    Args:
        p: 2 (Euclidean) or 1 (sum of magnitudes).
        field_dim: dimension of the inputs that counts several fields; the result then has one entry a field.
        num_fields: length of ``field_dim``; needed with it.
        samplewise: mean of one ratio for each entry of the first dimension (the usual error of neural operators)
            instead of one ratio for everything.
        **kwargs: for :class:`torchmetrics.Metric`.

    Raises:
        ValueError: an argument is out of its range, or ``compute`` meets a reference that is zero.

    Example:
        >>> error = RelativeL2()
        >>> error(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]))
        tensor(0.7071, dtype=torch.float64)
    """

    is_differentiable = True
    higher_is_better = False
    full_state_update = False

    difference: Tensor
    magnitude: Tensor
    num_samples: Tensor

    def __init__(
        self,
        *,
        p: int = 2,
        field_dim: int | None = None,
        num_fields: int | None = None,
        samplewise: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_norm(p)
        if (field_dim is None) != (num_fields is None):
            raise ValueError(f"`field_dim` and `num_fields` go together, got {field_dim=} and {num_fields=}.")
        self.p, self.field_dim, self.samplewise = p, field_dim, samplewise
        shape = () if num_fields is None else (num_fields,)
        zeros = torch.zeros(shape, dtype=torch.float64)
        self.add_state("difference", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("magnitude", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, reference: Tensor) -> None:
        """Add a batch of predictions and references of the same shape.

        Raises:
            ValueError: shapes differ, or (``samplewise``) the reference of a sample is zero.
        """
        difference, magnitude = error_power_sums(
            predicted, reference, p=self.p, field_dim=self.field_dim, samplewise=self.samplewise
        )
        if self.samplewise:
            self.difference = self.difference + ratio_of_norms(difference, magnitude, p=self.p).sum(dim=0)
            self.num_samples = self.num_samples + predicted.shape[0]
        else:
            self.difference = self.difference + difference
            self.magnitude = self.magnitude + magnitude

    def compute(self) -> Tensor:
        """Return the error: a scalar, or one entry a field."""
        if self.samplewise:
            return self.difference / self.num_samples
        return ratio_of_norms(self.difference, self.magnitude, p=self.p)
