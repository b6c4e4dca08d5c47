"""Operators on both sides of the bridge to SciPy, and beside those of curvlinops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import diags_array, linalg
from torch import nn

from lightning_regimes.curvature import HessianOperator, eigsh, from_scipy, spectral_density, to_scipy, trace
from lightning_regimes.probe import LossProbe

MATRIX = torch.randn(40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MATRIX = MATRIX @ MATRIX.T + torch.eye(40)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scipy_solvers_take_our_operators(dtype: torch.dtype) -> None:
    operator = to_scipy(MATRIX.to(dtype))
    assert operator.dtype == (np.float32 if dtype == torch.float32 else np.float64)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-8
    values = torch.linalg.eigvalsh(MATRIX).numpy()
    np.testing.assert_allclose(linalg.eigsh(operator, 3)[0], values[-3:], rtol=tolerance)
    start = np.random.default_rng(0).normal(size=(40, 3)).astype(operator.dtype)
    np.testing.assert_allclose(
        np.sort(linalg.lobpcg(operator, start, maxiter=200, tol=1e-3)[0]), values[-3:], rtol=max(tolerance, 1e-6)
    )
    right = np.ones(40, dtype=operator.dtype)
    solution, info = linalg.cg(operator, right, rtol=1e-10 if dtype == torch.float64 else 1e-5, maxiter=1000)
    assert info == 0
    np.testing.assert_allclose(MATRIX.numpy() @ solution, right, atol=1e-3 if dtype == torch.float32 else 1e-8)


def test_our_solvers_take_scipy_operators() -> None:
    operator = from_scipy(linalg.aslinearoperator(MATRIX.numpy()))
    assert operator.dtype == torch.float64
    assert eigsh(operator, 2, tol=1e-8).values.tolist() == pytest.approx(
        torch.linalg.eigvalsh(MATRIX)[[-1, -2]].tolist()
    )
    assert operator.num_matvecs > 2
    sparse = from_scipy(diags_array(np.arange(1.0, 41.0)), dtype=torch.float32)
    assert trace(sparse, method="hutchinson").value == pytest.approx(820)
    torch.testing.assert_close(from_scipy(to_scipy(MATRIX)) @ MATRIX, MATRIX @ MATRIX)
    with pytest.raises(ValueError, match="must be real"):
        from_scipy(1j * np.eye(3))
    with pytest.raises(ValueError, match="must be float32 or float64"):
        to_scipy(torch.eye(3, dtype=torch.bfloat16))


@pytest.mark.peer
def test_curvlinops_on_both_sides() -> None:
    curvlinops = pytest.importorskip("curvlinops")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    inputs, targets = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 3, dtype=torch.float64)
    loss = nn.MSELoss()
    theirs = curvlinops.HessianLinearOperator(module, loss, list(module.parameters()), [(inputs, targets)])
    ours = HessianOperator(LossProbe(module, [(inputs, targets)], loss=lambda m, b: loss(m(b[0]), b[1])))
    dense = ours @ torch.eye(51, dtype=torch.float64)
    truth = torch.linalg.eigvalsh(dense)
    assert eigsh(theirs, 3, tol=1e-8).values.tolist() == pytest.approx(truth[[-1, -2, -3]].tolist())
    for operator in (theirs, ours):
        estimate = trace(operator, num_samples=50)
        assert abs(estimate.value - float(dense.trace())) <= 4 * estimate.standard_error
    assert spectral_density(theirs, num_vectors=2, num_steps=20).mass == pytest.approx(1, abs=1e-3)
    assert float(curvlinops.xtrace(ours, 48)) == pytest.approx(float(dense.trace()), rel=0.05)
    assert float(curvlinops.hutchinson_trace(ours, 40)) == pytest.approx(float(dense.trace()), rel=0.5)
    assert float(curvlinops.hutchpp_trace(ours, 48)) == pytest.approx(float(dense.trace()), rel=0.1)
    assert float(curvlinops.hutchinson_squared_fro(ours, 40)) == pytest.approx(float(dense.square().sum()), rel=0.9)
    torch.testing.assert_close(curvlinops.hutchinson_diag(ours, 40), dense.diagonal(), rtol=0, atol=0.5)
