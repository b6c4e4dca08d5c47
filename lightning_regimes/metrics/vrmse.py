"""The error of fields relative to how much they vary, as a function and as a torchmetrics metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

# That of The Well, so that numbers compare.
_EPSILON = 1e-7


def variance_scaled_errors(predicted: Tensor, reference: Tensor, *, spatial_dims: int = 2) -> Tensor:
    r"""Return the VRMSE of each field of each sample, in float64.

    .. math:: \sqrt{\frac{\langle |\hat u - u|^2 \rangle}{\operatorname{var} u + 10^{-7}}}

    The mean and the (unbiased) variance are over space. Predicting the mean of a field gives 1, nearly.

    Args:
        predicted: :math:`\hat u`, (..., n₁, …, n_d).
        reference: u, the same shape.
        spatial_dims: number d of trailing dimensions that are space.

    Returns:
        One error for each of the leading dimensions; not finite where the prediction isn't.

    Raises:
        ValueError: the shapes differ, or have fewer than d dimensions.

    References:
        Ohana et al., The Well: a Large-Scale Collection of Diverse Physics Simulations for Machine Learning,
        arXiv:2412.00568, appendix on metrics.
    """
    check_fields(predicted, reference, spatial_dims=spatial_dims)
    space = tuple(range(-spatial_dims, 0))
    predicted, reference = predicted.double(), reference.double()
    variance = reference.var(dim=space)
    return ((predicted - reference).square().mean(dim=space) / (variance + _EPSILON)).sqrt()


class VRMSE(Metric):
    """The mean of :func:`variance_scaled_errors` over all samples that were seen, in float64.

    A prediction that isn't finite makes the result not finite.

    Args:
        spatial_dims: number of trailing dimensions that are space.
        num_fields: give one error a field instead of their mean; fields are the dimension before space.
        **kwargs: for :class:`torchmetrics.Metric`.

    Raises:
        ValueError: ``update`` gets shapes that differ or don't fit, or ``compute`` comes before any.

    Example:
        >>> error = VRMSE(spatial_dims=1)
        >>> error(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[0.0, 1.0, 2.0]]))
        tensor(0.8165, dtype=torch.float64)
    """

    is_differentiable = True
    higher_is_better = False
    full_state_update = False

    total: Tensor
    num_samples: Tensor

    def __init__(self, *, spatial_dims: int = 2, num_fields: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if spatial_dims < 1:
            raise ValueError(f"`spatial_dims` is at least 1, got {spatial_dims}")
        self.spatial_dims, self.num_fields = spatial_dims, num_fields
        shape = () if num_fields is None else (num_fields,)
        self.add_state("total", torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_samples", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, reference: Tensor) -> None:
        """Add a batch of predictions and references, both (..., fields, n₁, …, n_d).

        Raises:
            ValueError: the shapes differ, or have another number of fields.
        """
        errors = variance_scaled_errors(predicted, reference, spatial_dims=self.spatial_dims)
        if self.num_fields is None:
            self.total = self.total + errors.sum()
            self.num_samples = self.num_samples + errors.numel()
            return
        if errors.ndim < 1 or errors.shape[-1] != self.num_fields:
            raise ValueError(f"there are {self.num_fields} fields before space, got shape {tuple(reference.shape)}")
        errors = errors.reshape(-1, self.num_fields)
        self.total = self.total + errors.sum(dim=0)
        self.num_samples = self.num_samples + len(errors)

    def compute(self) -> Tensor:
        """Return the mean error: a scalar, or one entry a field."""
        if not bool(self.num_samples > 0):
            raise ValueError("the mean error needs a sample: call `update` first.")
        return self.total / self.num_samples


def check_fields(predicted: Tensor, reference: Tensor, *, spatial_dims: int) -> None:
    """Raise a ValueError unless both have the same shape, with as many dimensions of space."""
    if predicted.shape != reference.shape:
        raise ValueError(
            f"`predicted` and `reference` must have the same shape, got {tuple(predicted.shape)} and "
            f"{tuple(reference.shape)}: broadcasting would silently measure something else."
        )
    if not 1 <= spatial_dims <= predicted.ndim:
        raise ValueError(
            f"`spatial_dims` lies between 1 and the number of dimensions, got {spatial_dims} for shape "
            f"{tuple(predicted.shape)}"
        )
