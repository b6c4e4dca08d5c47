"""What the solvers of this package ask of a symmetric operator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class LinearOperator(Protocol):
    """A real symmetric n × n operator that is known only through its products."""

    @property
    def shape(self) -> tuple[int, ...]:
        """``(n, n)``."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Real floating dtype of the vectors that the operator takes and returns."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the vectors that the operator takes and returns."""
        ...

    def __matmul__(self, other: Tensor) -> Tensor:
        """Product with a vector ``(n,)`` or, column by column, with a matrix ``(n, m)``."""
        ...


def require_symmetric_shape(operator: LinearOperator) -> int:
    """Return n, or raise ``ValueError`` when ``operator`` is not a non-empty real square operator."""
    if len(operator.shape) != 2 or operator.shape[0] != operator.shape[1] or operator.shape[0] < 1:
        raise ValueError(f"operator must be square and not empty, got shape {tuple(operator.shape)}")
    if not operator.dtype.is_floating_point:
        raise ValueError(f"operator must have a real floating dtype, got {operator.dtype}")
    return operator.shape[0]


def require_operand(operator: LinearOperator, other: Tensor) -> None:
    """Raise TypeError or ValueError for what an operator cannot multiply: (n,) or (n, m), its dtype, its device."""
    if not isinstance(other, Tensor) or other.dtype != operator.dtype:
        kind = other.dtype if isinstance(other, Tensor) else type(other).__name__
        raise TypeError(f"the operator multiplies tensors of {operator.dtype}, got {kind}")
    size = operator.shape[1]
    if other.ndim not in (1, 2) or other.shape[0] != size:
        raise ValueError(f"the operator multiplies tensors of shape ({size},) or ({size}, m), got {tuple(other.shape)}")
    if other.device != operator.device:
        raise ValueError(f"the operator multiplies tensors on {operator.device}, got one on {other.device}")


def columnwise(product: Callable[[Tensor], Tensor], other: Tensor) -> Tensor:
    """Return ``product`` of a vector (n,), or of each column of a matrix (n, m)."""
    if other.ndim == 1:
        return product(other.detach())
    result = other.new_empty(other.shape[1], other.shape[0])
    for row, column in zip(result, other.detach().unbind(1), strict=True):
        row.copy_(product(column.contiguous()))
    return result.T


def held(operator: LinearOperator) -> AbstractContextManager[None]:
    """Keep what the operator sets up for a product over many products.

    A Hessian puts its module aside and restores it afterwards, which costs more than the product of a small network;
    any operator may offer this as a context manager ``isolated()``.
    """
    isolated = getattr(operator, "isolated", None)
    return contextlib.nullcontext() if isolated is None else isolated()


def suggested_start(operator: LinearOperator) -> Tensor | None:
    """Return what the operator offers as ``start_vector()``: a vector that leans towards its leading eigenvectors."""
    start_vector = getattr(operator, "start_vector", None)
    return None if start_vector is None else start_vector()
