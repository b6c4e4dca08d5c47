"""Darcy flow through a random medium on the unit square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_regimes.pde.random_field import GaussianRandomField

FaceAverage = Literal["harmonic", "arithmetic"]

# Nodes on a side up to which a band factorization takes less time than a sparse one.
_LARGEST_BANDED = 193


@dataclass(frozen=True)
class DarcyFlow:
    """``−∇·(a ∇u) = f`` on the unit square with ``u = 0`` on its boundary, and ``a`` of two values.

    The coefficient ``a`` is ``low · contrast`` where a Gaussian random field with Neumann conditions is positive, and
    ``low`` elsewhere. Five-point differences on the nodes ``i/(n − 1)`` take ``a`` on a face as the average of its two
    nodes. The error is ``O(h²)`` for smooth ``a``, and the solution obeys the maximum principle: ``u ≥ 0`` for
    ``f ≥ 0``.

    Attributes:
        low: the smaller value of ``a``.
        contrast: how many times larger the other one is; the equation gets harder with it.
        forcing: ``f``.
        face_average: "harmonic", which keeps the flux through a jump of ``a``, or "arithmetic".
        exponent: ``γ`` of the field, drawn from ``N(0, (−Δ + τ²)^−γ)``.
        inverse_length: ``τ`` of the field.

    Raises:
        ValueError: a number is out of range.

    References:
        Z. Li et al., "Fourier neural operator for parametric partial differential equations", ICLR 2021,
        arXiv:2010.08895, section 5.2 and appendix A.3.2.
    """

    low: float = 3.0
    contrast: float = 4.0
    forcing: float = 1.0
    face_average: FaceAverage = "harmonic"
    exponent: float = 2.0
    inverse_length: float = 3.0

    def __post_init__(self) -> None:
        if self.low <= 0:
            raise ValueError(f"`low` must be positive, got {self.low}: the equation would not be elliptic.")
        if self.contrast < 1:
            raise ValueError(f"`contrast` must be at least 1, got {self.contrast}.")
        if self.face_average not in get_args(FaceAverage):
            raise ValueError(f'`face_average` must be "harmonic" or "arithmetic", got {self.face_average!r}.')
        _ = self.field

    @property
    def field(self) -> GaussianRandomField:
        """The field whose sign decides the coefficient."""
        return GaussianRandomField(exponent=self.exponent, inverse_length=self.inverse_length)

    def coefficient(
        self, indices: Sequence[int], *, resolution: int, seed: Sequence[int] = (0,), num_modes: int | None = None
    ) -> Tensor:
        """Return random coefficients, ``(len(indices), n, n)`` in float64; see :meth:`GaussianRandomField.sample`."""
        field = self.field.sample(indices, resolution=resolution, seed=seed, num_modes=num_modes)
        return torch.where(field > 0, self.low * self.contrast, self.low).to(field)

    def solve(self, coefficient: Tensor) -> Tensor:
        """Return the solution for each coefficient, ``(…, n, n)`` to ``(…, n, n)`` in float64.

        Raises:
            ValueError: the grid is not square or has no inner node, or a coefficient is not positive and finite.
        """
        a = coefficient.detach().cpu().double()
        if a.ndim < 2 or a.shape[-1] != a.shape[-2] or a.shape[-1] < 3:
            raise ValueError(f"`coefficient` must be (…, n, n) with n of at least 3, got {tuple(a.shape)}.")
        if not bool(((a > 0) & a.isfinite()).all()):
            raise ValueError("`coefficient` must be positive and finite at every node.")
        along_rows, along_columns = self._face_values(a)
        size = a.shape[-1]
        solution = torch.zeros_like(a)
        faces = zip(
            along_rows.reshape(-1, size - 1, size - 2).numpy(),
            along_columns.reshape(-1, size - 2, size - 1).numpy(),
            solution.view(-1, size, size).numpy(),
            strict=True,
        )
        solver = _solve_banded if size <= _LARGEST_BANDED else _solve_sparse
        for row_faces, column_faces, values in faces:
            values[1:-1, 1:-1] = solver(row_faces, column_faces, self.forcing / (size - 1) ** 2)
        return solution

    def residual(self, coefficient: Tensor, solution: Tensor) -> Tensor:
        """Return ``−∇·(a ∇u) − f`` on the inner nodes by the differences that :meth:`solve` uses.

        Args:
            coefficient: ``(…, n, n)``.
            solution: ``(…, n, n)``; gradients flow through it.

        Returns:
            ``(…, n − 2, n − 2)``.

        Raises:
            ValueError: the shapes differ.
        """
        if coefficient.shape != solution.shape:
            raise ValueError(
                f"`solution` must have the shape of `coefficient`, {tuple(coefficient.shape)}, "
                f"got {tuple(solution.shape)}."
            )
        rows, columns = solution.shape[-2] - 1, solution.shape[-1] - 1
        along_rows, along_columns = self._face_values(coefficient)
        # Fluxes that leave a node through its faces, over the mesh widths.
        row_flux = along_rows * solution[..., :, 1:-1].diff(dim=-2) * rows**2
        column_flux = along_columns * solution[..., 1:-1, :].diff(dim=-1) * columns**2
        return -row_flux.diff(dim=-2) - column_flux.diff(dim=-1) - self.forcing

    def _face_values(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``a`` between neighbours in a column, ``(…, n − 1, n − 2)``, and in a row, ``(…, n − 2, n − 1)``."""
        inner_columns, inner_rows = a[..., :, 1:-1], a[..., 1:-1, :]
        return (
            self._average(inner_columns[..., 1:, :], inner_columns[..., :-1, :]),
            self._average(inner_rows[..., 1:], inner_rows[..., :-1]),
        )

    def _average(self, one: Tensor, other: Tensor) -> Tensor:
        return 2 * one * other / (one + other) if self.face_average == "harmonic" else (one + other) / 2


def _solve_banded(
    row_faces: NDArray[np.float64], column_faces: NDArray[np.float64], right_hand_side: float
) -> NDArray[np.float64]:
    diagonal, next_column, next_row = _stencil(row_faces, column_faces)
    size = diagonal.shape[0]
    # Two rows would be a tridiagonal matrix, and its routine refuses a single inner node.
    bands = np.zeros((max(size, 2) + 1, size * size))
    bands[0] = diagonal.ravel()
    bands[1] = next_column.ravel()
    bands[size] = next_row.ravel()
    found = scipy.linalg.solveh_banded(
        bands, np.full(size * size, right_hand_side), lower=True, overwrite_ab=True, check_finite=False
    )
    return np.asarray(found).reshape(size, size)


def _solve_sparse(
    row_faces: NDArray[np.float64], column_faces: NDArray[np.float64], right_hand_side: float
) -> NDArray[np.float64]:
    diagonal, next_column, next_row = _stencil(row_faces, column_faces)
    size = diagonal.shape[0]
    beside, below = next_column.ravel()[:-1], next_row.ravel()[:-size]
    matrix = scipy.sparse.diags_array(
        [diagonal.ravel(), beside, beside, below, below], offsets=[0, 1, -1, size, -size], format="csc"
    )
    factors = scipy.sparse.linalg.splu(matrix, permc_spec="MMD_AT_PLUS_A")
    return np.asarray(factors.solve(np.full(size * size, right_hand_side))).reshape(size, size)


def _stencil(
    row_faces: NDArray[np.float64], column_faces: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return the matrix entries of each inner node, times ``h²``: with itself, the next in its row, the next below."""
    diagonal = row_faces[1:] + row_faces[:-1] + column_faces[:, 1:] + column_faces[:, :-1]
    next_column, next_row = -column_faces[:, 1:], -row_faces[1:]
    # The last node of a row has no neighbour beside it, those of the last row have none below.
    next_column[:, -1] = 0.0
    next_row[-1] = 0.0
    return diagonal, next_column, next_row
