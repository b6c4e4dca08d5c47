"""Operators of this package as those of curvlinops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lightning_regimes.curvature.linear_operator import LinearOperator, held, require_symmetric_shape


def to_curvlinops(operator: LinearOperator, shapes: Sequence[Sequence[int]] | None = None) -> Any:
    """Return a symmetric operator as a ``PyTorchLinearOperator`` of curvlinops, to add it to others and to chain it.

    Its estimators of traces, norms and diagonals take the operators of this package as they are, except for ``xdiag``.
    Sums, products and lists of tensors, one for each parameter, are what they need this for.

    Args:
        operator: n × n.
        shapes: of the parameters, in their order; products with lists of tensors have these. Default: one vector (n,).

    Raises:
        ValueError: the operator is not square, or the shapes have another number of elements.
        ImportError: curvlinops is not installed.
    """
    from curvlinops._torch_base import PyTorchLinearOperator

    size = require_symmetric_shape(operator)
    parts = [torch.Size(shape) for shape in ([(size,)] if shapes is None else shapes)]
    counts = [part.numel() for part in parts]
    if sum(counts) != size:
        raise ValueError(f"`shapes` have {size} elements as the operator has rows, got {sum(counts)}")

    class _Converted(PyTorchLinearOperator):  # type: ignore[misc, unused-ignore]
        SELF_ADJOINT = True
        device = operator.device
        dtype = operator.dtype

        def _matmat(self, operand: list[Tensor]) -> list[Tensor]:
            matrix = torch.cat([part.reshape(count, -1) for part, count in zip(operand, counts, strict=True)])
            with held(operator):
                product = operator @ matrix
            return [
                rows.reshape(*part, matrix.shape[1]) for rows, part in zip(product.split(counts), parts, strict=True)
            ]

    return _Converted(parts, parts)
