"""A probe is a quadrature rule for the spectrum, its residuals are true, and it can be had for nothing."""

import pytest
import torch

from lightning_regimes.curvature import eigsh
from lightning_regimes.spectral import SpectralProbe, as_operator, lanczos_probe
from lightning_regimes.spectral.diagonal_probe import diagonal_probe

EIGENVALUES = torch.logspace(-4, 1, 60, dtype=torch.float64)


def test_polynomials_up_to_twice_the_steps_less_one_are_integrated_exactly(with_spectrum, random_vector):
    operator, vectors = with_spectrum(EIGENVALUES)
    start = random_vector(60)
    probe = lanczos_probe(operator, num_steps=7, start=start)
    assert operator.num_matvecs == 7
    parts = (vectors.T @ start).square() / start.square().sum()
    for power in range(14):
        truth = float((parts * EIGENVALUES**power).sum())
        assert float((probe.weights * probe.ritz**power).sum()) == pytest.approx(truth, rel=1e-10)


def test_every_residual_bounds_the_distance_to_an_eigenvalue(with_spectrum):
    operator, _ = with_spectrum(EIGENVALUES)
    probe = lanczos_probe(operator, num_steps=10)
    distances = (probe.ritz[:, None] - EIGENVALUES).abs().amin(1)
    assert bool((distances <= probe.residuals + 1e-12).all())
    assert float(probe.upper) == pytest.approx(1.05 * float((probe.ritz + probe.residuals).max()), rel=1e-14)
    assert float(probe.upper) > float(EIGENVALUES[-1])


def test_the_dimension_stays_with_a_probe(with_spectrum):
    probe = lanczos_probe(with_spectrum(EIGENVALUES)[0], num_steps=10)
    others = (probe.scaled(2.0), probe.shifted(1.0), probe.noisy(0.05), probe.to(torch.float32))
    assert [other.dimension for other in (probe, *others)] == [60] * 5
    start = torch.ones(60, dtype=torch.float64)
    assert diagonal_probe(EIGENVALUES, start).dimension == 60
    parts = probe.ritz, probe.weights, probe.residuals
    assert SpectralProbe.from_ritz(*parts).dimension is None


def test_an_invariant_space_ends_the_steps():
    operator = as_operator(torch.diag(torch.tensor([1.0, 1.0, 2.0, 2.0, 5.0], dtype=torch.float64)))
    probe = lanczos_probe(operator, num_steps=10, start=torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(probe.ritz, torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64), rtol=0, atol=1e-13)
    torch.testing.assert_close(probe.weights, torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64), rtol=0, atol=1e-13)


def test_a_batch_of_diagonals_says_what_each_operator_says(random_vector):
    eigenvalues = torch.stack([EIGENVALUES, torch.linspace(1, 3, 60, dtype=torch.float64)])
    starts = torch.stack([random_vector(60, 3), random_vector(60, 4)])
    together = diagonal_probe(eigenvalues, starts, num_steps=8)
    for row in range(2):
        alone = lanczos_probe(as_operator(eigenvalues[row].diag()), num_steps=8, start=starts[row])
        for name in ("ritz", "weights", "residuals", "upper"):
            expected, got = getattr(alone, name), getattr(together, name)[row]
            torch.testing.assert_close(got, expected, rtol=1e-8, atol=1e-10)


def test_a_batch_stays_finite_where_spaces_are_invariant():
    eigenvalues = torch.ones(3, 20, dtype=torch.float64)
    eigenvalues[1, :4] = 0.5
    probe = diagonal_probe(eigenvalues, torch.ones_like(eigenvalues), num_steps=6)
    assert bool(torch.isfinite(probe.ritz).all())
    assert bool(((probe.ritz > 0.49) & (probe.ritz < 1.01)).all())
    torch.testing.assert_close(probe.weights.sum(-1), torch.ones(3, dtype=torch.float64))


def test_a_search_for_eigenpairs_has_made_a_probe(with_spectrum, random_vector):
    operator, vectors = with_spectrum(EIGENVALUES)
    pairs = eigsh(operator, 3, tol=1e-8)
    spent = operator.num_matvecs
    vector = random_vector(60)
    probe = SpectralProbe.from_eigenpairs(pairs, vector)
    assert operator.num_matvecs == spent
    torch.testing.assert_close(probe.ritz[1:], EIGENVALUES[-3:], rtol=1e-8, atol=0)
    expected = (vectors.T @ vector)[-3:].square() / vector.square().sum()
    torch.testing.assert_close(probe.weights[1:], expected, rtol=1e-5, atol=0)
    assert float(probe.weights.sum()) == pytest.approx(1, abs=1e-12)


def test_a_noisy_probe_is_off_by_no_more_than_it_says_and_raises_its_bound(with_spectrum):
    operator, _ = with_spectrum(EIGENVALUES)
    probe = lanczos_probe(operator)
    noisy = probe.noisy(0.05, torch.Generator().manual_seed(0))
    ratio = noisy.ritz / probe.ritz
    assert 0.95 <= float(ratio.min()) < 0.99
    assert 1.01 < float(ratio.max()) <= 1.05
    expected = 1.05 * 1.05 * float((noisy.ritz + noisy.residuals).max())
    assert float(noisy.upper) == pytest.approx(expected, rel=1e-12)


def test_scaling_and_shifting_are_those_of_the_operator(with_spectrum, random_vector):
    operator, _ = with_spectrum(EIGENVALUES)
    start = random_vector(60)
    probe = lanczos_probe(operator, start=start)
    scaled = lanczos_probe(as_operator(3 * (operator @ torch.eye(60, dtype=torch.float64))), start=start)
    torch.testing.assert_close(probe.scaled(3.0).ritz, scaled.ritz, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(probe.scaled(3.0).residuals, scaled.residuals, rtol=1e-8, atol=1e-12)
    assert float(probe.shifted(0.5).ritz[0]) == pytest.approx(float(probe.ritz[0]) + 0.5)


def test_what_is_no_probe_is_said():
    one = torch.ones(3)
    with pytest.raises(ValueError, match="one shape"):
        SpectralProbe(one, one[:2], one, torch.tensor(1.0))
    with pytest.raises(ValueError, match="`upper` has shape"):
        SpectralProbe(one, one, one, one)
    with pytest.raises(ValueError, match="`num_steps` is at least 1"):
        lanczos_probe(as_operator(torch.eye(3)), num_steps=0)
    with pytest.raises(ValueError, match="other than zero"):
        lanczos_probe(as_operator(torch.eye(3)), start=torch.zeros(3))
