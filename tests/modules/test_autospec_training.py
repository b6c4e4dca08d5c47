"""What an engine of functions is worth after the whole training of its configuration."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.optimize import linprog

from lightning_regimes.cli import main
from lightning_regimes.curvature.linear_operator import LinearOperator
from lightning_regimes.modules import AutoSpec
from lightning_regimes.spectral import as_operator, lanczos_probe

CONFIGS = Path(__file__).parents[2] / "configs"
DEGREE = 32


def laplacian(side: int) -> tuple[LinearOperator, torch.Tensor]:
    """Five-point Laplacian with unit diagonal, and its eigenvalues in closed form."""
    line = sparse.diags_array([-0.25, 0.5, -0.25], offsets=[-1, 0, 1], shape=(side, side))
    matrix = sparse.kronsum(line, line, format="csr")
    index = torch.arange(1, side + 1, dtype=torch.float64)
    values = (1 - torch.cos(index * math.pi / (side + 1))) / 2
    return as_operator(matrix), (values[:, None] + values).flatten().sort().values


def least_error(lower: float, upper: float) -> float:
    """Largest relative error of the best polynomial for the inverse square root, by linear programming."""
    points = np.cos(np.linspace(0, np.pi, 600))
    values = ((upper + lower) / 2 + (upper - lower) / 2 * points) ** -0.5
    rows = np.polynomial.chebyshev.chebvander(points, DEGREE) / values[:, None]
    ones = np.ones((len(points), 1))
    program = linprog(
        np.r_[np.zeros(DEGREE + 1), 1.0],
        A_ub=np.block([[rows, -ones], [-rows, -ones]]),
        b_ub=np.r_[np.ones(len(points)), -np.ones(len(points))],
        bounds=(None, None),
    )
    return float(program.fun)


@pytest.mark.reproduction
def test_inverse_square_roots_are_within_twice_the_best_for_six_sizes_and_five_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main(["fit", "-c", str(CONFIGS / "autospec_function.yaml"), "--trainer.enable_progress_bar=false"]) == 0
    torch.set_num_threads(threads)
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    engine = AutoSpec.load_from_checkpoint(checkpoint, map_location="cpu").engine
    for side in (16, 24, 32, 48, 64, 96):
        operator, eigenvalues = laplacian(side)
        best = least_error(float(eigenvalues[0]), float(eigenvalues[-1]))
        for seed in range(5):
            with torch.no_grad():
                series = engine(lanczos_probe(operator, num_steps=engine.probe_size, seed=seed))
            error = float((series.evaluate(eigenvalues) * eigenvalues.sqrt() - 1).abs().max())
            assert error <= 2 * best, (side, seed, error / best)
