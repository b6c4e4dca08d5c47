"""An orthonormal basis that grows by products with an operator, and its Rayleigh–Ritz pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_regimes.curvature.linear_operator import LinearOperator
from lightning_regimes.probe import ProbeError

Array = NDArray[np.float64]

_COLUMNS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class RitzPairs:
    r"""Eigenpairs of the projected operator, values ascending.

    Attributes:
        values: shape (m,).
        coefficients: shape (m, m); column i holds the Ritz vector in the basis.
        reducible: shape (m,); norm of the part of each residual that a further product can reduce.
        irreducible: shape (m,); norm of the part that it cannot: what the operator is not symmetric by, and what was
            given up by locking or restarts.
    """

    values: Array
    coefficients: Array
    reducible: Array
    irreducible: Array

    @property
    def residuals(self) -> Array:
        r"""Norms :math:`\|Hy - \theta y\|`, shape (m,)."""
        return np.hypot(self.reducible, self.irreducible)


class KrylovSpace:
    r"""Orthonormal rows V that have been multiplied by the operator, and one row q that is pending.

    .. math:: H V = V C + q b^T

    holds after every step up to rounding: it is the Lanczos relation, and survives restarts. All inner products are
    measured, none is taken for granted, so that the residuals hold for an operator that is not quite symmetric, too.

    References:
        K. Wu and H. Simon, Thick-restart Lanczos method for large symmetric eigenvalue problems, SIAM J. Matrix
        Anal. Appl. 22 (2000), doi:10.1137/S0895479898334605.
    """

    def __init__(self, operator: LinearOperator, capacity: int, device: torch.device, seed: int) -> None:
        size = operator.shape[0]
        self.operator = operator
        self.capacity = capacity
        self.num_rows = 0
        self.num_multiplied = 0
        self.num_locked = 0
        self.num_matvecs = 0
        self._generator = torch.Generator().manual_seed(seed)
        self._rows = torch.empty(capacity, size, dtype=operator.dtype, device=device)
        self._products: Array = np.zeros((capacity, capacity))  # [i, j] = <row i, H row j>
        self._given_up: Array = np.zeros((capacity, capacity))  # Gram matrix of the residuals that were let go
        self._epsilon = float(torch.finfo(operator.dtype).eps)
        self._scale = 0.0

    @property
    def has_pending(self) -> bool:
        """Whether there is a row to multiply."""
        return self.num_rows > self.num_multiplied

    @property
    def is_full(self) -> bool:
        """Whether a further row and its product need a restart first."""
        return self.num_rows + 2 > self.capacity and self.capacity < self._rows.shape[1]

    @property
    def is_invariant(self) -> bool:
        """Whether the basis spans the whole space, so that its Ritz pairs are all eigenpairs."""
        return self.num_multiplied == self._rows.shape[1]

    def random_vector(self) -> Tensor:
        """Return a normal random vector from a private generator, the same on every device."""
        size, dtype = self._rows.shape[1], self._rows.dtype
        return torch.randn(size, generator=self._generator, dtype=dtype).to(self._rows.device)

    def begin(self, vector: Tensor) -> None:
        """Make the part of a vector outside the basis the pending row, if there is any."""
        target = self._rows[self.num_rows]
        target.copy_(vector)
        before = float(torch.linalg.vector_norm(target))
        _, norm = self._orthogonalize(target)
        if norm > 10 * self._epsilon * before:
            target.div_(norm)
            self._orthogonalize(target)
            target.div_(torch.linalg.vector_norm(target))
            self._append(0.0)

    def multiply(self) -> None:
        """Multiply the pending row by the operator; what lies outside the basis becomes the pending row."""
        index = self.num_multiplied
        source = self._rows[index]
        image = (self.operator @ source.to(self.operator.device)).to(self._rows.device)
        self.num_matvecs += 1
        self.num_multiplied += 1

        # By symmetry the rows that this one couples to are known. With those taken out first (for Lanczos the row
        # before and the row itself), one pass over the whole basis is as good as the usual two.
        coupled = np.flatnonzero(np.abs(self._products[index, :index]) > self._epsilon * self._scale)
        first = int(coupled[0]) if coupled.size else index
        neighbours = self._rows[first : index + 1]
        local = neighbours @ image
        target = self._rows[self.num_rows] if self.num_rows < self.capacity else torch.empty_like(source)
        torch.addmv(image, neighbours.T, local, alpha=-1, out=target)
        corrections, norm = self._orthogonalize(target, local)
        size = math.hypot(norm, math.sqrt(corrections @ corrections))
        if not math.isfinite(size):
            raise ProbeError(
                "the product of the operator with a vector is not finite; the loss overflows or has no second "
                "derivative at these parameters (a square root or a norm at zero, for instance)"
            )
        self._products[: self.num_rows, index] = corrections
        self._products[index, : self.num_locked] = corrections[: self.num_locked]
        self._scale = max(self._scale, size)
        if norm > 10 * self._epsilon * self._scale and self.num_rows < self._rows.shape[1]:
            target.div_(norm)
            self._append(norm)

    def lock(self) -> None:
        """Give up the pending row and, with it, the reduction of the residuals on the rows multiplied so far."""
        rows = slice(0, self.num_multiplied)
        outside = self._products[self.num_multiplied : self.num_rows, rows]
        self._given_up[rows, rows] += outside.T @ outside
        self.num_rows = self.num_locked = self.num_multiplied

    def ritz_pairs(self, first: int = 0) -> RitzPairs:
        """Return the Ritz pairs of the operator on the multiplied rows from ``first`` on."""
        rows = slice(first, self.num_multiplied)
        inside = self._products[rows, rows]
        symmetric = (inside + inside.T) / 2
        values, coefficients = np.linalg.eigh(symmetric)
        reducible = np.zeros(len(values))
        if self.has_pending:
            reducible = np.abs(self._products[self.num_multiplied, rows] @ coefficients)
        antisymmetric = (inside - symmetric) @ coefficients
        squares = (antisymmetric * antisymmetric).sum(axis=0)
        squares += (coefficients * (self._given_up[rows, rows] @ coefficients)).sum(axis=0).clip(min=0.0)
        return RitzPairs(values, coefficients, reducible, np.sqrt(squares))

    def compress(self, coefficients: Array, first: int = 0) -> None:
        """Replace the multiplied rows from ``first`` on by orthonormal combinations of them, shape (m, p)."""
        multiplied, kept = self.num_multiplied, first + coefficients.shape[1]
        num_pending = self.num_rows - multiplied
        transform = torch.from_numpy(coefficients.T.copy()).to(self._rows)
        # In place, a slab of columns at a time: a second basis would double the memory.
        for slab in torch.split(self._rows, _COLUMNS_AT_ONCE, dim=1):
            slab[first:kept] = transform @ slab[first:multiplied]
            slab[kept : kept + num_pending] = slab[multiplied : self.num_rows].clone()
        products, given_up = self._products, self._given_up
        inside = products[first:multiplied, first:multiplied]
        lost = inside @ coefficients - coefficients @ (coefficients.T @ inside @ coefficients)
        products[: self.num_rows, first:kept] = products[: self.num_rows, first:multiplied] @ coefficients
        products[first:kept, :kept] = coefficients.T @ products[first:multiplied, :kept]
        products[kept : kept + num_pending, :kept] = products[multiplied : self.num_rows, :kept].copy()
        given_up[:, first:kept] = given_up[:, first:multiplied] @ coefficients
        given_up[first:kept, :kept] = coefficients.T @ given_up[first:multiplied, :kept]
        given_up[kept:] = given_up[:, kept:] = 0.0
        given_up[first:kept, first:kept] += lost.T @ lost
        self.num_rows = kept + num_pending
        self.num_multiplied = kept
        if first < self.num_locked:
            self.num_locked = kept

    def combine(self, coefficients: Array) -> Tensor:
        """Return combinations of the multiplied rows, shape (p, n), for coefficients of shape (m, p)."""
        transform = torch.from_numpy(coefficients.T.copy()).to(self._rows)
        return transform @ self._rows[: self.num_multiplied]

    def _append(self, coupling: float) -> None:
        """Count the row that has been written after the last one, coupled to the row multiplied last alone."""
        self._products[self.num_rows, : self.num_multiplied] = 0.0
        if coupling:
            self._products[self.num_rows, self.num_multiplied - 1] = coupling
        self.num_rows += 1

    def _orthogonalize(self, target: Tensor, local: Tensor | None = None) -> tuple[Array, float]:
        """Take the basis out of ``target`` in place; return the coefficients and what is left of its norm.

        ``local`` holds coefficients on the last multiplied rows that have been taken out before.
        """
        basis = self._rows[: self.num_rows]
        total = np.zeros(self.num_rows)
        while True:
            coefficients = basis @ target
            target.addmv_(basis.T, coefficients, alpha=-1)
            norm = torch.linalg.vector_norm(target).reshape(1)
            parts = (norm, coefficients) if local is None else (norm, coefficients, local)
            measured = torch.cat(parts).cpu().double().numpy()  # one synchronisation of the device a pass
            correction = measured[1 : 1 + self.num_rows]
            total += correction
            if local is not None:
                total[self.num_multiplied - len(local) : self.num_multiplied] += measured[1 + self.num_rows :]
                local = None
            # A pass leaves a relative error of eps |before| / |after|: repeat it only where that is more than eps.
            if not correction @ correction > measured[0] ** 2 > 0:
                return total, float(measured[0])
