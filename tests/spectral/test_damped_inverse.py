"""A damped inverse is within the error it states, for every vector, on SciPy and curvlinops as here."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg as scipy_cg

from lightning_regimes import LossProbe
from lightning_regimes.curvature import HessianOperator, to_curvlinops, to_scipy
from lightning_regimes.spectral import DampedInverse, as_operator, clipped, lanczos_probe

EIGENVALUES = torch.cat([torch.zeros(20, dtype=torch.float64), torch.logspace(-4, 1, 40, dtype=torch.float64)])


@pytest.mark.parametrize("degree", [1, 7, 16, 40])
def test_the_error_is_at_most_what_it_says_for_every_vector(degree, with_spectrum):
    operator, vectors = with_spectrum(EIGENVALUES)
    inverse = DampedInverse(operator, 0.05, degree=degree)
    spent = operator.num_matvecs
    found = inverse @ torch.eye(60, dtype=torch.float64)
    assert operator.num_matvecs - spent == 60 * (degree - 1) == inverse.num_matvecs
    truth = vectors * (1 / (EIGENVALUES + 0.05)) @ vectors.T
    errors = torch.linalg.eigvalsh((found - truth) @ torch.linalg.inv(truth)).abs()
    assert float(errors.max()) <= inverse.relative_error * (1 + 1e-6)
    assert inverse.relative_error < 1
    torch.testing.assert_close(found, found.T, rtol=0, atol=1e-10)
    assert float(torch.linalg.eigvalsh(found).min()) > 0


def test_the_error_falls_as_chebyshevs_bound(with_spectrum):
    operator, _ = with_spectrum(EIGENVALUES)
    inverse = DampedInverse(operator, 0.05, degree=30)
    condition = float(inverse.probe.upper) / 0.05
    rate = (condition**0.5 - 1) / (condition**0.5 + 1)
    assert inverse.relative_error == pytest.approx(2 * rate**30 / (1 + rate**60), rel=1e-3)


def test_a_damped_hessian_of_a_network_is_inverted():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    inputs, targets = torch.randn(2, 16, 3, dtype=torch.float64)
    probe = LossProbe(module, [(inputs, targets[:, :1])], loss=lambda m, b: (m(b[0]) - b[1]).square().mean())
    hessian = HessianOperator(probe)
    size = hessian.shape[0]
    dense = hessian @ torch.eye(size, dtype=torch.float64)
    damping = 0.1 - float(torch.linalg.eigvalsh(dense)[0])
    inverse = DampedInverse(hessian, damping, degree=60, probe=lanczos_probe(hessian, num_steps=size))
    gradient = probe.gradient()
    truth = torch.linalg.solve(dense + damping * torch.eye(size, dtype=torch.float64), gradient)
    assert float((inverse @ gradient - truth).norm() / truth.norm()) <= inverse.relative_error < 0.02


def test_scipy_takes_it_as_a_preconditioner(with_spectrum, random_vector):
    operator, _ = with_spectrum(EIGENVALUES)
    matrix = (operator @ torch.eye(60, dtype=torch.float64)).numpy() + 0.05 * np.eye(60)
    counts = []
    for preconditioner in (None, to_scipy(DampedInverse(operator, 0.05))):
        steps = []
        vector = random_vector(60).numpy()
        found, code = scipy_cg(matrix, vector, rtol=1e-8, M=preconditioner, callback=lambda x, s=steps: s.append(0))
        assert code == 0
        np.testing.assert_allclose(matrix @ found, vector, atol=1e-6)
        counts.append(len(steps))
    assert counts[1] < counts[0] / 3


@pytest.mark.peer
def test_curvlinops_chains_and_adds_it_with_parameters_in_lists(with_spectrum, random_vector):
    pytest.importorskip("curvlinops")
    operator, vectors = with_spectrum(EIGENVALUES)
    shapes = [(3, 4), (48,)]
    inverse = to_curvlinops(DampedInverse(operator, 0.5, degree=40), shapes)
    hessian = to_curvlinops(operator, shapes)
    truth = vectors * (EIGENVALUES / (EIGENVALUES + 0.5)) @ vectors.T
    torch.testing.assert_close((hessian @ inverse) @ torch.eye(60, dtype=torch.float64), truth, rtol=0, atol=1e-5)
    vector = random_vector(60)
    parts = (inverse @ hessian) @ [vector[:12].reshape(3, 4), vector[12:]]
    assert [tuple(part.shape) for part in parts] == shapes
    torch.testing.assert_close(torch.cat([part.flatten() for part in parts]), truth @ vector, rtol=0, atol=1e-5)
    torch.testing.assert_close((hessian + inverse).adjoint() @ vector, hessian @ vector + inverse @ vector)
    np.testing.assert_allclose(inverse.to_scipy() @ vector.numpy(), (inverse @ vector).numpy(), rtol=1e-6)
    with pytest.raises(ValueError, match="`shapes` have 60 elements"):
        to_curvlinops(operator, [(3, 4)])


@pytest.mark.peer
def test_curvlinops_takes_it_as_it_is(with_spectrum):
    curvlinops = pytest.importorskip("curvlinops")
    operator, _ = with_spectrum(EIGENVALUES)
    inverse = DampedInverse(operator, 0.5, degree=40)
    truth = float((1 / (EIGENVALUES + 0.5)).sum())
    torch.manual_seed(0)
    # Of 60 rows it takes at most 57 samples, hence a mean of several estimates.
    estimates = [float(curvlinops.hutchpp_trace(inverse, num_matvecs=57)) for _ in range(100)]
    assert np.mean(estimates) == pytest.approx(truth, rel=0.01)


def test_a_rule_for_preconditioners_may_make_the_coefficients(with_spectrum):
    operator, _ = with_spectrum(EIGENVALUES)
    inverse = DampedInverse(operator, 1e-3, degree=8, rule=clipped)
    expected = clipped(lanczos_probe(operator).shifted(1e-3), 8)
    torch.testing.assert_close(inverse.recurrence.alpha, expected.alpha)


def test_damping_that_does_not_make_it_positive_is_an_error(with_spectrum):
    operator, _ = with_spectrum(torch.linspace(-1, 1, 20, dtype=torch.float64))
    with pytest.raises(ValueError, match="larger than the negative eigenvalues"):
        DampedInverse(operator, 0.5)
    with pytest.raises(ValueError, match="`damping` is positive"):
        DampedInverse(as_operator(torch.eye(3)), 0.0)
