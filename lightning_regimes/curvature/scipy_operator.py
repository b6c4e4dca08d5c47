"""Operators of this package in SciPy, and SciPy's here.

Operators of curvlinops (3.0) need neither: they have shape, dtype, device and ``@``, which is all that :func:`eigsh`,
:func:`trace`, :func:`diagonal`, :func:`frobenius_norm` and :func:`spectral_density` ask for. The other way round,
curvlinops' ``hutchinson_trace``, ``hutchpp_trace``, ``xtrace``, ``hutchinson_diag`` and ``hutchinson_squared_fro``
take the operators of this package as they are; its ``xdiag`` asks for an ``adjoint()``, which they do not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import (
    LinearOperator,
    columnwise,
    held,
    require_operand,
    require_symmetric_shape,
)

if TYPE_CHECKING:
    from scipy.sparse import linalg

_NUMPY_DTYPES: dict[torch.dtype, Any] = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


def to_scipy(operator: LinearOperator) -> linalg.LinearOperator:
    """Return a symmetric operator as SciPy's, for ``eigsh``, ``lobpcg``, ``cg``, ``minres`` and the like.

    Products go through the operator's dtype and device and come back as NumPy arrays of that dtype, whatever the
    dtype of the operand. ``with operator.isolated():`` around SciPy's call, where the operator has it, makes many
    products of a small network cheaper.

    Args:
        operator: float32 or float64, on any device.

    Raises:
        ValueError: the operator is not square, or NumPy has no equal of its dtype.
    """
    from scipy.sparse import linalg

    size = require_symmetric_shape(operator)
    if operator.dtype not in _NUMPY_DTYPES:
        raise ValueError(f"`operator` must be float32 or float64, which SciPy computes in, got {operator.dtype}")
    dtype = _NUMPY_DTYPES[operator.dtype]

    def multiply(operand: np.ndarray) -> np.ndarray:
        # A copy: SciPy hands over parts of its work arrays, which may be read-only or strided.
        array = np.array(operand, dtype=dtype, order="C")
        with held(operator):
            product = operator @ torch.from_numpy(array).to(operator.device)
        result: np.ndarray = product.detach().cpu().numpy()
        return result

    def column(operand: np.ndarray) -> np.ndarray:
        return multiply(operand.reshape(-1))

    return linalg.LinearOperator(
        (size, size), matvec=column, matmat=multiply, rmatvec=column, rmatmat=multiply, dtype=dtype
    )


class ScipyOperator:
    """A symmetric operator of SciPy, an array or a sparse matrix as an operator on tensors; see :func:`from_scipy`."""

    def __init__(self, operator: linalg.LinearOperator, device: torch.device, dtype: torch.dtype) -> None:
        self._operator = operator
        self.device = device
        self.dtype = dtype
        #: Number of products with a vector so far.
        self.num_matvecs = 0

    @property
    def shape(self) -> tuple[int, int]:
        """``(n, n)``."""
        return self._operator.shape[0], self._operator.shape[1]

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return the product with a vector (n,), or column by column with a matrix (n, m).

        Raises:
            TypeError: the tensor has another dtype than the operator.
            ValueError: it has another shape or is on another device.
        """
        require_operand(self, other)
        return columnwise(self._product, other)

    def _product(self, vector: Tensor) -> Tensor:
        self.num_matvecs += 1
        return torch.from_numpy(np.asarray(self._operator.matvec(vector.cpu().numpy()))).to(vector)


def from_scipy(operator: Any, *, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> ScipyOperator:
    """Return a symmetric operator of SciPy, a matrix or a sparse matrix as an operator on tensors.

    Products are computed by SciPy on the CPU. The operator is taken for symmetric without a check.

    Args:
        operator: what ``scipy.sparse.linalg.aslinearoperator`` takes, real, n × n.
        device: of the tensors.
        dtype: of the tensors, float32 or float64. Default: float32 for a float32 operator, otherwise float64.

    Raises:
        TypeError: not a linear operator.
        ValueError: not square, complex, or another dtype.
    """
    from scipy.sparse import linalg

    wrapped = linalg.aslinearoperator(operator)
    if np.dtype(wrapped.dtype).kind == "c":
        raise ValueError(f"`operator` must be real, got {wrapped.dtype}")
    if dtype is None:
        dtype = torch.float32 if wrapped.dtype == np.float32 else torch.float64
    if dtype not in _NUMPY_DTYPES:
        raise ValueError(f"`dtype` must be torch.float32 or torch.float64, got {dtype}")
    found = ScipyOperator(wrapped, torch.empty(0, device=device).device, dtype)
    require_symmetric_shape(found)
    return found
