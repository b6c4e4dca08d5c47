"""Conjugate gradients agree with SciPy, obey the law of products, and the guard keeps preconditioners positive."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.linalg import cg as scipy_cg

from lightning_regimes.spectral import (
    PolynomialPreconditioner,
    SpectralProbe,
    as_operator,
    cg,
    chebyshev,
    clipped,
    density,
    guarded,
    lanczos_probe,
    minres_polynomial,
    smoothing,
    spanning,
)
from lightning_regimes.spectral.density_rule import spread_spectrum
from lightning_regimes.spectral.simulated_cg import simulated_cg
from lightning_regimes.spectral.spectrum_families import FAMILIES

RULES = [spanning, smoothing, clipped, density, minres_polynomial]


def test_a_ritz_value_is_as_many_points_as_it_stands_for_eigenvalues():
    parts = [torch.tensor(part, dtype=torch.float64) for part in ([0.1, 0.5, 1.0], [0.01, 0.2, 0.79], [0.0, 0.1, 0.2])]
    probe = SpectralProbe.from_ritz(*parts, dimension=50)
    points, weights = spread_spectrum(probe)
    assert len(points) == len(weights) == 1 + 10 + 30
    torch.testing.assert_close(points[1:11], 0.4 + 0.2 * (torch.arange(10, dtype=torch.float64) + 0.5) / 10)
    torch.testing.assert_close(weights[:11], torch.tensor([0.01, *[0.02] * 10], dtype=torch.float64))
    assert float(weights.sum()) == pytest.approx(1, abs=1e-14)
    assert len(spread_spectrum(replace(probe, dimension=None))[0]) == 30


def test_a_small_operator_leaves_more_low_eigenvalues_to_conjugate_gradients():
    probe = lanczos_probe(as_operator((torch.linspace(1e-3, 1, 200, dtype=torch.float64) ** 1.5).diag()))
    # The lower end of Chebyshev's interval follows from the first coefficient, 2 / (a + b).
    ends = [float(2 / density(replace(probe, dimension=n), 8).alpha[0] - probe.upper) for n in (30, 400)]
    assert ends[0] > 5 * ends[1]


def test_the_iterates_are_those_of_scipy(with_spectrum, random_vector):
    operator, _ = with_spectrum(torch.logspace(-2, 0, 50, dtype=torch.float64))
    vector = random_vector(50)
    seen = []
    matrix = (operator @ torch.eye(50, dtype=torch.float64)).numpy()
    expected, _ = scipy_cg(matrix, vector.numpy(), rtol=1e-10, maxiter=17, callback=lambda x: seen.append(x.copy()))
    found = cg(operator, vector, tol=1e-10, max_iterations=17)
    assert found.num_iterations == 17
    assert not found.converged
    np.testing.assert_allclose(found.solution.numpy(), expected, rtol=1e-8)
    residuals = [np.linalg.norm(vector.numpy() - matrix @ x) / np.linalg.norm(vector.numpy()) for x in seen]
    np.testing.assert_allclose(found.relative_residuals[1:].numpy(), residuals, rtol=1e-6)


def test_products_are_counted_those_of_the_preconditioner_too(with_spectrum, random_vector):
    operator, _ = with_spectrum(torch.logspace(-3, 0, 60, dtype=torch.float64))
    preconditioner = PolynomialPreconditioner(operator, degree=5)
    before = operator.num_matvecs
    found = cg(operator, random_vector(60), preconditioner=preconditioner)
    assert found.converged
    assert operator.num_matvecs - before == found.num_matvecs == 5 * found.num_iterations


def test_the_simulation_is_what_happens(with_spectrum, random_vector):
    eigenvalues = torch.logspace(-3, 0, 60, dtype=torch.float64)
    operator, vectors = with_spectrum(eigenvalues)
    vector = random_vector(60)
    preconditioner = PolynomialPreconditioner(operator, degree=4)
    truth = vectors * (1 / eigenvalues) @ vectors.T @ vector
    errors = []
    for steps in range(1, 7):
        difference = truth - cg(operator, vector, preconditioner=preconditioner, max_iterations=steps).solution
        errors.append(float((difference @ (operator @ difference)).sqrt() / (vector @ truth).sqrt()))
    inverse = preconditioner.recurrence.inverse(eigenvalues)
    simulated = simulated_cg(eigenvalues, vectors.T @ vector, inverse, 6)
    np.testing.assert_allclose(simulated[1:].numpy(), errors, rtol=1e-8)


@settings(deadline=None, max_examples=30)
@given(
    family=st.sampled_from(sorted(FAMILIES)),
    rule=st.sampled_from(RULES),
    degree=st.integers(2, 10),
    seed=st.integers(0, 999),
)
def test_a_preconditioner_of_degree_d_saves_no_products(family, rule, degree, seed):
    generator = torch.Generator().manual_seed(seed)
    eigenvalues = FAMILIES[family](150, 10 ** float(1 + 3 * torch.rand((), generator=generator)), generator)
    operator = as_operator(eigenvalues.diag())
    vector = torch.randn(150, generator=generator, dtype=torch.float64)
    plain = cg(operator, vector)
    preconditioner = PolynomialPreconditioner(operator, degree=degree, rule=rule, probe=lanczos_probe(operator))
    found = cg(operator, vector, preconditioner=preconditioner)
    assert found.converged
    assert degree * found.num_iterations >= 0.95 * plain.num_iterations


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("degree", [7, 8])
def test_an_upper_bound_that_is_too_low_is_caught_before_it_does_harm(rule, degree, with_spectrum, random_vector):
    operator, _ = with_spectrum(torch.logspace(-3, 0, 90, dtype=torch.float64))
    probe = lanczos_probe(operator)
    low = replace(probe, upper=0.9 * probe.ritz[-1])
    preconditioner = PolynomialPreconditioner(operator, degree=degree, rule=rule, probe=low)
    grid = torch.linspace(1e-4, 1.0, 4001, dtype=torch.float64)
    assert float(preconditioner.recurrence.inverse(grid).min()) > 0
    # The MINRES polynomial does not use the bound; a Chebyshev polynomial of odd degree stays positive above it.
    if rule is not minres_polynomial:
        assert preconditioner.num_fallbacks == 1 - degree % 2
    assert cg(operator, random_vector(90), preconditioner=preconditioner).converged


def test_a_probe_that_is_all_too_low_is_found_out_on_the_way(with_spectrum, random_vector):
    operator, _ = with_spectrum(torch.logspace(-3, 0, 90, dtype=torch.float64))
    low = lanczos_probe(operator).scaled(0.8)
    preconditioner = PolynomialPreconditioner(operator, rule=spanning, probe=low)
    assert preconditioner.num_fallbacks == 0
    vector = random_vector(90)
    found = cg(operator, vector, preconditioner=preconditioner)
    assert found.converged
    assert found.num_fallbacks == preconditioner.num_fallbacks >= 1
    assert float((vector - operator @ found.solution).norm() / vector.norm()) < 1e-7


def test_the_guard_leaves_alone_what_is_positive(with_spectrum):
    operator, _ = with_spectrum(torch.logspace(-2, 0, 40, dtype=torch.float64))
    probe = lanczos_probe(operator)
    good = clipped(probe, 8)
    assert guarded(good, probe) == (good, False)
    bad = chebyshev(0.1 * float(probe.upper), 0.7 * float(probe.upper), 8)
    replaced, fell_back = guarded(bad, probe)
    assert fell_back
    assert float(replaced.smallest_inverse(1.1 * probe.upper)) > 0


def test_a_start_and_a_zero_right_hand_side(with_spectrum, random_vector):
    operator, _ = with_spectrum(torch.linspace(1, 2, 20, dtype=torch.float64))
    vector = random_vector(20)
    solution = cg(operator, vector, tol=1e-12).solution
    again = cg(operator, vector, start=solution, tol=1e-10)
    assert again.num_iterations == 0
    assert again.converged
    assert not bool(cg(operator, 0 * vector).solution.any())


def test_a_matrix_that_is_not_positive_definite_is_an_error(with_spectrum, random_vector):
    operator, _ = with_spectrum(torch.linspace(-1, 1, 20, dtype=torch.float64))
    with pytest.raises(ValueError, match="`operator` must be positive definite"):
        cg(operator, random_vector(20))
    identity = as_operator(torch.eye(20, dtype=torch.float64))
    with pytest.raises(ValueError, match="`preconditioner` must be positive definite"):
        cg(identity, random_vector(20), preconditioner=as_operator(-torch.eye(20, dtype=torch.float64)))
    with pytest.raises(ValueError, match="is a vector"):
        cg(identity, torch.eye(20, dtype=torch.float64))
    with pytest.raises(ValueError, match="`tol` must be positive"):
        cg(identity, random_vector(20), tol=0)
