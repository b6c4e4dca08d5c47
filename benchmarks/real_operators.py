"""Sparse positive definite operators: matrices of the SuiteSparse collection, and of the gallery of pyamg.

The folder is that of the environment variable ``REGIMES_TEST_DATA`` with ``matrices/*.mtx.gz`` and
``matrices/manifest.json``; the gallery is there where pyamg is installed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from lightning_regimes.spectral.matrix_files import read_matrix, sparse_operator, unit_diagonal
from lightning_regimes.spectral.operator_forms import TensorOperator

GROUNDING = 0.01


def collection() -> dict[str, Any]:
    """Return the matrices of the folder by name; a graph becomes its Laplacian plus 0.01."""
    folder = Path(os.environ.get("REGIMES_TEST_DATA", "/nonexistent"), "matrices")
    if not folder.is_dir():
        raise SystemExit("set REGIMES_TEST_DATA to a folder with matrices/manifest.json and matrices/*.mtx.gz")
    found = {}
    for entry in json.loads((folder / "manifest.json").read_text()):
        matrix = read_matrix(folder / f"{entry['name']}.mtx.gz")
        if entry["kind"] != "spd":
            matrix = grounded_laplacian(matrix)
        found[entry["name"]] = unit_diagonal(matrix)
    return found


def grounded_laplacian(pattern: Any) -> Any:
    """Return D − A + 0.01 I of the graph whose edges are the entries beside the diagonal."""
    adjacency = (pattern != 0).astype(np.float64).tolil()
    adjacency.setdiag(0)
    adjacency = adjacency.tocsr()
    degrees = np.asarray(adjacency.sum(axis=1)).reshape(-1)
    return (scipy.sparse.diags_array(degrees + GROUNDING) - adjacency).tocsr()


def gallery() -> dict[str, Any]:
    """Return six problems of pyamg by name."""
    from pyamg.gallery import diffusion_stencil_2d, linear_elasticity, load_example, poisson, stencil_grid

    stencil = diffusion_stencil_2d(epsilon=0.001, theta=np.pi / 6, type="FE")
    problems = {
        "poisson_64": poisson((64, 64)),
        "anisotropic_64": stencil_grid(stencil, (64, 64)),
        "elasticity_30": linear_elasticity((30, 30))[0],
        "airfoil": load_example("airfoil")["A"],
        "bar": load_example("bar")["A"],
        "local_disc_galerkin": load_example("local_disc_galerkin_diffusion")["A"],
    }
    matrices = {name: scipy.sparse.csr_array(matrix, dtype=np.float64) for name, matrix in problems.items()}
    return {name: unit_diagonal((matrix + matrix.T) / 2) for name, matrix in matrices.items()}


def real_operators() -> dict[str, tuple[TensorOperator, Any]]:
    """Return all operators, scaled to a unit diagonal, with the matrix of each."""
    return {name: (sparse_operator(matrix), matrix) for name, matrix in (collection() | gallery()).items()}
