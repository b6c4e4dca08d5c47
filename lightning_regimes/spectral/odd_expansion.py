"""Odd functions of the singular values, by matrix products alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lightning_regimes.spectral.gram_form import gram_form, segment_lengths
from lightning_regimes.spectral.real_matrix import magnitude, require_real_matrix

Stage = tuple[float, float, float]


@dataclass(frozen=True)
class OddExpansion:
    r"""A weighted sum of all iterates of a Newton–Schulz iteration, which costs no more than the last one.

    .. math:: X_0 = M / s, \qquad X_{k+1} = \bigl(a_k I + b_k X_k X_k^T + c_k (X_k X_k^T)^2\bigr) X_k, \qquad
        Y = s^p \sum_{k=0}^{T} d_k X_k

    The singular vectors are those of M, and each singular value σ becomes an odd polynomial of it. The iterates
    saturate one after the other as σ grows, at points that are evenly spread in log σ; so a handful of weights
    follows a power of σ over many decades.

    The scale s is the Schatten-8 norm, an upper bound on the largest singular value, at most
    :math:`\min(m, n)^{1/8}` times as large, that comes with the products of the first stage.

    Attributes:
        stages: T triples a, b, c.
        weights: d, one more than there are stages.
        degree: p; a multiple c M gives :math:`c^p Y`.

    Raises:
        ValueError: there are no stages, a stage is no triple, or the weights do not fit.
    """

    stages: Sequence[Stage]
    weights: Sequence[float]
    degree: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        if not self.stages or any(len(stage) != 3 for stage in self.stages):
            raise ValueError(f"`stages` is at least one triple (a, b, c), got {self.stages!r}")
        if len(self.weights) != len(self.stages) + 1:
            raise ValueError(f"`weights` has one entry more than {len(self.stages)} stages, got {len(self.weights)}")
        # Tuples, so that an expansion is a value: it cannot change, and can be compared.
        object.__setattr__(self, "stages", tuple((float(a), float(b), float(c)) for a, b, c in self.stages))
        object.__setattr__(self, "weights", tuple(float(weight) for weight in self.weights))

    def __call__(self, matrix: Tensor, *, dtype: torch.dtype | None = None, gram: bool | None = None) -> Tensor:
        r"""Return Y.

        Args:
            matrix: M, shape (..., m, n).
            dtype: of the products; default the dtype of the matrix, and float32 for half precision. With half
                precision the first stage, which sets the scale, is computed in float32, and so is the sum.
            gram: iterate on the Gram matrix of the shorter side, and multiply by the longer side only a few times.
                Default: where one side is at least twice the other and the products resolve the square of a small
                singular value, which half precision and TF32 do not.

        Returns:
            The shape and dtype of the matrix; zeros for a matrix of zeros.

        Raises:
            ValueError: the matrix is not real or not finite, or ``gram`` is asked for in half precision.
        """
        require_real_matrix(matrix, name="matrix")
        working = dtype or torch.promote_types(matrix.dtype, torch.float32)
        full = torch.promote_types(working, torch.float32)
        lengths = segment_lengths(self.stages, resolution(working, matrix.device))
        if gram is None:
            gram = _is_oblong(matrix.shape) and lengths is not None
        elif gram and lengths is None:
            raise ValueError(f"`gram` needs products in float32 or float64, got {working}")

        if matrix.numel() == 0:
            return matrix.clone()
        size = magnitude(matrix, name="matrix").to(full)
        tall = matrix.shape[-2] > matrix.shape[-1]
        wide = (matrix.to(full) / size).reshape(-1, *matrix.shape[-2:])
        wide = wide.mT if tall else wide
        turned = _prefers_transpose(wide) if wide.shape[-2] == wide.shape[-1] else None
        wide = wide if turned is None else torch.where(turned, wide.mT, wide)
        first = wide @ wide.mT
        square = first.diagonal(dim1=-2, dim2=-1).sum(-1)[:, None, None]
        square = torch.where(square > 0, square, 1)
        first = first / square
        second = first @ first
        root = torch.linalg.matrix_norm(second, keepdim=True).sqrt()
        root = torch.where(root > 0, root, 1)
        first, second, bound = first / root, second / root**2, (square * root).sqrt()
        outer = (size.reshape(-1, 1, 1) * bound) ** self.degree
        if gram and lengths is not None:
            total = gram_form(wide, first, second, self.stages, self.weights, lengths, inner=1 / bound, outer=outer)
        else:
            total = self._iterate(wide / bound, first, second, working) * outer
        total = total if turned is None else torch.where(turned, total.mT, total)
        return (total.mT if tall else total).reshape(matrix.shape).to(matrix.dtype)

    def scalar(self, sigma: Tensor) -> Tensor:
        r"""Return what becomes of a singular value between 0 and the scale s = 1, in float64."""
        x = sigma.to(torch.float64)
        total = self.weights[0] * x
        for (a, b, c), weight in zip(self.stages, self.weights[1:], strict=True):
            square = x.square()
            x = x * (a + square * (b + c * square))
            total = total + weight * x
        return total

    def num_matmuls(self, shape: Sequence[int], *, gram: bool | None = None, dtype: torch.dtype = torch.float32) -> int:
        """Return how many matrix products one matrix of this shape takes, of any size (see :meth:`num_products`)."""
        return sum(self.num_products(shape, gram=gram, dtype=dtype))

    def num_products(
        self, shape: Sequence[int], *, gram: bool | None = None, dtype: torch.dtype = torch.float32
    ) -> tuple[int, int]:
        r"""Return the number of products with a long and with a short side.

        With k ≤ l the sides of the matrix, the first kind takes :math:`k^2 l` multiplications and the second
        :math:`k^3`.

        Args:
            shape: of the matrix, (..., m, n).
            gram: as in the call.
            dtype: as in the call.
        """
        lengths = segment_lengths(self.stages, resolution(dtype, torch.device("cpu")))
        if gram is None:
            gram = _is_oblong(shape) and lengths is not None
        if not gram or lengths is None:
            return 2 * len(self.stages), len(self.stages)
        return 2 * len(lengths), sum(4 * length - 3 for length in lengths) + len(lengths) - 1

    def _iterate(self, x: Tensor, first: Tensor, second: Tensor, dtype: torch.dtype) -> Tensor:
        """Return the weighted sum of the iterates, given the first power of X₀ X₀ᵀ and the second."""
        (a, b, c), *rest = self.stages
        total = self.weights[0] * x
        x = torch.baddbmm(x, b * first + c * second, x, beta=a)
        total = total.add_(x, alpha=self.weights[1])
        x = x.to(dtype)
        for (a, b, c), weight in zip(rest, self.weights[2:], strict=True):
            square = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
            total = total.add_(x, alpha=weight)
        return total


def resolution(dtype: torch.dtype, device: torch.device) -> float:
    """Return the relative spacing of what goes into a product, which is that of TF32 where it stands for float32."""
    if dtype == torch.float32 and device.type == "cuda" and _rounds_to_tf32():
        return 2.0**-10
    return float(torch.finfo(dtype).eps)


def _rounds_to_tf32() -> bool:
    matmul = torch.backends.cuda.matmul
    # Since torch 2.9 there is a second setting, and who has used it may not ask for the first any more.
    precision = getattr(matmul, "fp32_precision", None)
    return bool(matmul.allow_tf32) if precision is None else precision not in ("none", "ieee")


def _prefers_transpose(square: Tensor) -> Tensor:
    """Return which of square matrices, (b, n, n), are worked on as their transpose, (b, 1, 1).

    It is one of the two, whichever is given, so that a matrix and its transpose take the same products, rounding
    included, as they do where one side is longer. The larger entries lie towards the last columns then.
    """
    squares = square.square()
    places = torch.arange(square.shape[-1], dtype=square.dtype, device=square.device)
    return ((squares.sum(-1) - squares.sum(-2)) @ places > 0)[:, None, None]


def _is_oblong(shape: Sequence[int]) -> bool:
    return max(shape[-2:]) >= 2 * min(shape[-2:])
