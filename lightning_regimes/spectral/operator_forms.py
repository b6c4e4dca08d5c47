"""Matrices, sparse matrices and functions as the operators that the solvers ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import (
    LinearOperator,
    columnwise,
    require_operand,
    require_symmetric_shape,
)
from lightning_regimes.curvature.scipy_operator import from_scipy


class TensorOperator:
    """A symmetric matrix, dense or sparse, that counts its products.

    Args:
        matrix: n × n, real, strided or sparse; taken for symmetric without a check.

    Raises:
        ValueError: not square, empty or not real.
    """

    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix.detach()
        #: Number of products with a vector so far.
        self.num_matvecs = 0
        require_symmetric_shape(self)

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, n)``."""
        return tuple(self._matrix.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the matrix."""
        return self._matrix.dtype

    @property
    def device(self) -> torch.device:
        """Device of the matrix."""
        return self._matrix.device

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return the product with a vector (n,) or a matrix (n, m)."""
        require_operand(self, other)
        self.num_matvecs += 1 if other.ndim == 1 else other.shape[1]
        return self._matrix @ other


class FunctionOperator:
    """A symmetric operator known by a function that maps v to Av, which counts its products.

    Args:
        product: from a vector (n,) to a vector (n,).
        size: n.
        dtype: of the vectors.
        device: of the vectors.

    Raises:
        ValueError: the size is below 1, or the dtype is not real.
    """

    def __init__(
        self,
        product: Callable[[Tensor], Tensor],
        size: int,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self._function = product
        self.shape = (size, size)
        self.dtype = dtype
        self.device = torch.empty(0, device=device).device
        #: Number of products with a vector so far.
        self.num_matvecs = 0
        require_symmetric_shape(self)

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return the product with a vector (n,), or column by column with a matrix (n, m)."""
        require_operand(self, other)
        return columnwise(self._product, other)

    def _product(self, vector: Tensor) -> Tensor:
        self.num_matvecs += 1
        return self._function(vector)


def as_operator(
    operator: Any,
    *,
    size: int | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> LinearOperator:
    """Return anything that multiplies vectors as a symmetric operator.

    Args:
        operator: a matrix as a tensor, dense or sparse; a matrix, sparse matrix or linear operator of SciPy; an
            operator of :mod:`lightning_regimes.curvature` or of curvlinops, which is returned as it is; or a function
            that maps v to Av, which needs ``size``.
        size: n, for a function.
        dtype: of the vectors, for a function (default float64) and for SciPy.
        device: of the vectors, for a function and for SciPy.

    Raises:
        TypeError: none of these.
        ValueError: a function without ``size``, or not square, empty or complex.
    """
    if isinstance(operator, Tensor):
        return TensorOperator(operator)
    if isinstance(operator, LinearOperator) and isinstance(operator.dtype, torch.dtype):
        require_symmetric_shape(operator)
        return operator
    if hasattr(operator, "shape"):
        return from_scipy(operator, device=device, dtype=dtype)
    if not callable(operator):
        raise TypeError(f"`operator` is a matrix, an operator or a function, got {type(operator).__name__}")
    if size is None:
        raise ValueError("`size` says how long the vectors are that a function multiplies, got none")
    return FunctionOperator(operator, size, dtype=dtype or torch.float64, device=device)
