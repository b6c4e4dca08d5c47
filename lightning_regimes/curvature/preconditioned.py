"""Curvature as an optimizer with a diagonal preconditioner meets it."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import (
    LinearOperator,
    columnwise,
    held,
    require_operand,
    require_symmetric_shape,
    suggested_start,
)


class PreconditionedOperator:
    r"""The operator :math:`D^{-1/2} (H + W) D^{-1/2}` for a symmetric operator H and diagonal matrices D and W.

    It has the eigenvalues of :math:`D^{-1} (H + W)`, whose largest decides whether an optimizer that divides its steps
    by D is stable, and it is symmetric.

    Args:
        operator: H, symmetric n × n.
        diagonal: of D, shape (n,), positive. Infinity takes a coordinate out: its row and column are zero.
        shift: of W, shape (n,) or a number, in the units of H: the weight decay that is part of the loss.

    Raises:
        ValueError: a diagonal of another shape, with entries that are not positive or not numbers, or an infinite
            shift.

    References:
        Cohen et al., Adaptive gradient methods at the edge of stability, arXiv:2207.14484.
    """

    def __init__(self, operator: LinearOperator, diagonal: Tensor, *, shift: Tensor | float = 0.0) -> None:
        size = require_symmetric_shape(operator)
        if tuple(diagonal.shape) != (size,):
            raise ValueError(f"`diagonal` must have shape ({size},), got {tuple(diagonal.shape)}")
        if not bool((diagonal > 0).all()):
            raise ValueError(
                f"`diagonal` must be positive everywhere, its smallest entry is {diagonal.min().item():.3g}"
            )
        shift = torch.as_tensor(shift, dtype=operator.dtype, device=operator.device).detach()
        if shift.ndim and tuple(shift.shape) != (size,):
            raise ValueError(f"`shift` must be a number or have shape ({size},), got {tuple(shift.shape)}")
        if not bool(torch.isfinite(shift).all()):
            raise ValueError("`shift` has entries that are not finite")
        self._operator = operator
        # In the precision of the diagonal, since a small entry may underflow in that of the operator.
        self._scale = diagonal.detach().to(operator.device).rsqrt().to(operator.dtype)
        self._shift = shift if bool(shift.any()) else None
        #: Number of products with a vector so far, each with one product of the operator inside.
        self.num_matvecs = 0

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)``."""
        return self._operator.shape[0], self._operator.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the operator."""
        return self._operator.dtype

    @property
    def device(self) -> torch.device:
        """Device of the operator."""
        return self._operator.device

    def isolated(self) -> AbstractContextManager[None]:
        """Keep what the operator sets up for a product over many products."""
        return held(self._operator)

    def start_vector(self) -> Tensor | None:
        """Return what the operator suggests, in the coordinates of this one: for a Hessian, the scaled gradient."""
        start = suggested_start(self._operator)
        return None if start is None else self._scale * start

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return the product with a vector (n,), or column by column with a matrix (n, m).

        Raises:
            TypeError: the tensor has another dtype than the operator.
            ValueError: it has another shape or is on another device.
            ProbeError: as the operator does.
        """
        require_operand(self, other)
        with held(self._operator):
            return columnwise(self._product, other)

    def _product(self, vector: Tensor) -> Tensor:
        inside = self._scale * vector
        image = self._operator @ inside
        if self._shift is not None:
            image = image + self._shift * inside
        self.num_matvecs += 1
        return self._scale * image
