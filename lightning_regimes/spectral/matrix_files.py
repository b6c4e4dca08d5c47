"""Sparse matrices from files, and those that come with the package."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lightning_regimes.spectral.operator_forms import TensorOperator

FOLDER = Path(__file__).with_name("matrices")
SHIPPED_MATRICES = ("494_bus", "bcsstk01", "gr_30_30", "lund_b", "nos5")
"""Names of the matrices of the package; their sources are in ``matrices/README.md``."""


def read_matrix(name: Path | str) -> Any:
    """Return a symmetric matrix of SciPy, in compressed rows, float64.

    Args:
        name: one of :data:`SHIPPED_MATRICES`; ``"poisson_<points>"`` for the five-point Laplacian on a square with so
            many points a side; or the path of a Matrix Market file, gzip'ed or not.

    Raises:
        ValueError: there is no such matrix, or it is not square.
    """
    import scipy.io
    import scipy.sparse

    if found := re.fullmatch(r"poisson_(\d+)", str(name)):
        return laplacian_matrix(int(found[1]))
    path = FOLDER / f"{name}.mtx.gz" if str(name) in SHIPPED_MATRICES else Path(name)
    if not path.is_file():
        raise ValueError(
            f"a matrix is {', '.join(SHIPPED_MATRICES)}, poisson_<points> or the path of a Matrix Market file, "
            f"got {str(name)!r}"
        )
    matrix = scipy.sparse.csr_array(scipy.io.mmread(path), dtype=np.float64)
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"a matrix must be square, {path} holds one of shape {matrix.shape}")
    return matrix


def laplacian_matrix(points: int) -> Any:
    """Return the five-point Laplacian on a square with so many inner points a side."""
    import scipy.sparse

    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=(-1, 0, 1), shape=(points, points))
    one = scipy.sparse.eye_array(points)
    return (scipy.sparse.kron(line, one) + scipy.sparse.kron(one, line)).tocsr()


def unit_diagonal(matrix: Any) -> Any:
    """Return D^-1/2 A D^-1/2 with the diagonal D of a matrix of SciPy, in compressed rows."""
    import scipy.sparse

    scale = scipy.sparse.diags_array(1 / np.sqrt(matrix.diagonal()))
    return (scale @ matrix @ scale).tocsr()


def sparse_operator(matrix: Any) -> TensorOperator:
    """Return a symmetric matrix of SciPy as an operator on tensors that torch multiplies."""
    rows = matrix.tocsr()
    rows.sort_indices()
    pointers, columns = (torch.from_numpy(part.astype(np.int64)) for part in (rows.indptr, rows.indices))
    with warnings.catch_warnings():
        # Torch says of every matrix in compressed rows that their support is in beta state.
        warnings.simplefilter("ignore", UserWarning)
        return TensorOperator(torch.sparse_csr_tensor(pointers, columns, torch.from_numpy(rows.data), rows.shape))
