import math

import pytest
import torch
from scipy.optimize import brentq

from lightning_regimes.theory import quadratic_sgd

DIMENSION, DOMINANT, VARIANCE = 500, 50, 0.25


def published_eigenvalues(dominance):
    """The published quadratic: λ_k / λ_{k+1} is the dominance, up to 0.1."""
    dominant = torch.linspace(100, 80, DOMINANT, dtype=torch.float64)
    bulk = torch.linspace(7, 1, DIMENSION - DOMINANT, dtype=torch.float64) * 80 / (dominance + 0.1) / 7
    return torch.cat([dominant, bulk])


def state(scale, dominant_scale, seed=0):
    generator = torch.Generator().manual_seed(seed)
    place = scale * torch.randn(DIMENSION, generator=generator, dtype=torch.float64)
    place[:DOMINANT] *= dominant_scale
    return place


def random_problem(generator):
    """Eigenvalues over two decades, coordinates and noise of any scale."""

    def uniform(low, high, *shape):
        return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)

    size = int(torch.randint(2, 40, (), generator=generator))
    k = int(torch.randint(1, size, (), generator=generator))
    eigenvalues = (10 ** uniform(-1, 1, size)).sort(descending=True).values
    place = 10 ** uniform(-2, 2, 1) * uniform(-1, 1, size)
    place[:k] *= 10 ** uniform(-3, 2, 1)
    return eigenvalues, place, 10 ** (uniform(-2, 2, 1) + uniform(-0.5, 0.5, size)), k


def expected_loss_change(eigenvalues, place, variances, step_size):
    """Difference of the losses before and after, mode by mode."""
    after = (1 - step_size * eigenvalues) ** 2 * place**2 + step_size**2 * variances
    return float((eigenvalues * (after - place**2)).sum() / 2)


@pytest.mark.parametrize(
    ("dominance", "scale", "dominant_scale"), [(5, 1.0, 0.1), (5, 5.0, 0.3), (10, 1.0, 0.05), (50, 2.0, 0.02)]
)
def test_alignment_falls_below_the_critical_step_size_and_rises_above(dominance, scale, dominant_scale):
    eigenvalues, place = published_eigenvalues(dominance), state(scale, dominant_scale)
    step = quadratic_sgd(eigenvalues, place, VARIANCE, num_dominant=DOMINANT)
    generator = torch.Generator().manual_seed(1)
    noise = VARIANCE**0.5 * torch.randn(10_000, DIMENSION, generator=generator, dtype=torch.float64)
    for factor, sign in ((0.5, -1), (0.9, -1), (1.1, 1), (2.0, 1)):
        step_size = factor * step.critical_step_size
        squares = (eigenvalues * (place - step_size * (eigenvalues * place + noise))).square()
        alignments = squares[:, :DOMINANT].sum(1) / squares.sum(1)
        change = float(alignments.mean()) - step.alignment
        standard_error = float(alignments.std()) / math.sqrt(len(alignments))
        assert sign * change > 3 * standard_error
        assert step.expected_next_alignment(step_size) == pytest.approx(float(alignments.mean()), abs=0.01)
    unchanged = step.expected_next_alignment(step.critical_step_size)
    assert unchanged == pytest.approx(step.alignment, rel=1e-10)


def test_loss_changes_sign_at_the_critical_step_size_of_each_subspace():
    generator = torch.Generator().manual_seed(2)
    for _ in range(50):
        eigenvalues, place, variances, k = random_problem(generator)
        step = quadratic_sgd(eigenvalues, place, variances, num_dominant=k)
        for part, moments in ((slice(0, k), step.dominant), (slice(k, None), step.bulk)):
            arguments = eigenvalues[part], place[part], variances[part]
            threshold = moments.critical_loss_step_size
            root = brentq(
                lambda rate, arguments=arguments: expected_loss_change(*arguments, rate) / rate,
                threshold / 3,
                3 * threshold,
                xtol=1e-14 * threshold,
                rtol=1e-14,
            )
            assert threshold == pytest.approx(root, rel=1e-8)
            assert expected_loss_change(*arguments, threshold * (1 - 1e-6)) < 0
            assert expected_loss_change(*arguments, threshold * (1 + 1e-6)) > 0
        rate = float(1 / eigenvalues[0])
        expected = expected_loss_change(eigenvalues, place, variances, rate)
        assert step.expected_loss_change(rate) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_between_the_two_loss_step_sizes_only_the_bulk_pays():
    eigenvalues, place = published_eigenvalues(10), state(1.0, 0.1)
    step = quadratic_sgd(eigenvalues, place, VARIANCE, num_dominant=DOMINANT)
    low, high = step.dominant.critical_loss_step_size, step.bulk.critical_loss_step_size
    assert low < high
    variances = torch.full_like(eigenvalues, VARIANCE)
    for fraction in (1e-6, 0.5, 1 - 1e-6):
        rate = low + fraction * (high - low)
        parts = [slice(0, DOMINANT), slice(DOMINANT, None)]
        dominant, bulk = (expected_loss_change(eigenvalues[p], place[p], variances[p], rate) for p in parts)
        assert dominant > 0 > bulk
        assert step.dominant.expected_loss_change(rate) == pytest.approx(dominant, rel=1e-6)
        assert step.bulk.expected_loss_change(rate) == pytest.approx(bulk, rel=1e-6)


def test_thresholds_of_the_alignment_on_random_states():
    generator = torch.Generator().manual_seed(3)
    below = falling = rising = 0
    for _ in range(2000):
        eigenvalues, place, variances, k = random_problem(generator)
        step = quadratic_sgd(eigenvalues, place, variances, num_dominant=k)
        suspicious = step.dominant.critical_loss_step_size < step.bulk.critical_loss_step_size
        assert (step.alignment < step.critical_alignment) == suspicious
        assert 0 < step.critical_alignment < 1
        assert step.low_alignment < step.high_alignment
        assert step.critical_step_size > 0
        below += suspicious
        if step.alignment >= step.high_alignment:
            falling += 1
            assert step.critical_step_size == math.inf
            for rate in (1e-3, 1.0, 1e3):
                assert step.expected_next_alignment(rate / float(eigenvalues[0])) <= step.alignment
        if step.alignment <= step.low_alignment:
            rising += 1
            assert step.expected_next_alignment(1.01 * step.critical_step_size) > step.alignment
    # The states are on both sides of every threshold.
    assert 200 < below < 1800
    assert falling > 20
    assert rising > 20


def test_published_low_alignment():
    published = {5: 0.743, 10: 0.919, 20: 0.978, 50: 0.9964, 100: 0.9991, 200: 0.9998}
    for dominance, value in published.items():
        step = quadratic_sgd(published_eigenvalues(dominance), state(1.0, 1.0), VARIANCE, num_dominant=DOMINANT)
        assert step.low_alignment == pytest.approx(value, abs=1e-3)


def test_threshold_of_high_alignment_is_the_root_of_its_equation():
    generator = torch.Generator().manual_seed(4)
    for _ in range(20):
        eigenvalues, place, variances, k = random_problem(generator)
        step = quadratic_sgd(eigenvalues, place, variances, num_dominant=k)
        a = float(variances.min() * eigenvalues[k:].square().sum())
        h = float(variances.max() * eigenvalues[:k].square().sum())
        m = float((eigenvalues * place).square().sum() * (eigenvalues[0] ** 2 - eigenvalues[-1] ** 2))
        # Cauchy's bound on the roots of a polynomial.
        bound = 1 + max(abs(a - m - h), h) / a
        odds = brentq(lambda r, a=a, h=h, m=m: a * r * r + (a - m - h) * r - h, 0, bound, xtol=1e-300, rtol=1e-14)
        assert step.high_alignment == pytest.approx(odds / (1 + odds), rel=1e-9)


def test_moments_are_products_with_the_hessian_and_a_correlated_noise():
    generator = torch.Generator().manual_seed(5)
    size, k, rate = 12, 4, 0.07
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    covariance = root @ root.T / size
    eigenvalues = torch.linspace(9, 1, size, dtype=torch.float64)
    hessian = basis @ torch.diag(eigenvalues) @ basis.T
    point = torch.randn(size, generator=generator, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(point @ hessian @ point / 2, point, create_graph=True)
    step = quadratic_sgd(
        eigenvalues, basis.T @ point.detach(), (basis.T @ covariance @ basis).diagonal(), num_dominant=k
    )

    expected, losses = {}, {}
    for name, vectors in (("dominant", basis[:, :k]), ("bulk", basis[:, k:])):
        projector = vectors @ vectors.T
        part = projector @ gradient.detach()
        (product,) = torch.autograd.grad(gradient, point, part, retain_graph=True)
        third, fourth = part @ product, product @ product
        noise = (projector @ hessian @ covariance @ hessian @ projector).trace()
        curvature = (hessian @ projector @ covariance @ projector).trace()
        losses[name] = 2 * part @ part / (third + curvature)
        expected[name] = (part @ part, third, fourth + noise)
        after = part - rate * product
        assert getattr(step, name).expected_next_gradient(rate) == pytest.approx(
            float(after @ after + rate**2 * noise), rel=1e-12
        )
        assert getattr(step, name).critical_loss_step_size == pytest.approx(float(losses[name]), rel=1e-12)
    (s_d, t_d, a_d), (s_b, t_b, a_b) = expected["dominant"], expected["bulk"]
    critical = 2 * (s_b * t_d - s_d * t_b) / (s_b * a_d - s_d * a_b)
    assert step.critical_step_size == pytest.approx(float(critical) if critical > 0 else math.inf, rel=1e-10)
    assert step.alignment == pytest.approx(float(s_d / (s_d + s_b)), rel=1e-12)
    assert step.chi == pytest.approx(float(s_d.sqrt() / (s_d + s_b).sqrt()), rel=1e-12)


@pytest.mark.parametrize(
    ("eigenvalues", "coordinates", "variances", "k", "message"),
    [
        ([1.0], [1.0], 1.0, 1, "`eigenvalues` must be at least two"),
        ([1.0, -1.0], [1.0, 1.0], 1.0, 1, "`eigenvalues` must be at least two positive"),
        ([1.0, 2.0], [1.0, 1.0], 1.0, 1, "descending order"),
        ([2.0, 1.0], [1.0, 1.0], 1.0, 2, "`num_dominant` must be from 1 to 1, got 2"),
        ([2.0, 1.0, 1.0], [1.0, 1.0, 1.0], 1.0, 2, "cuts through equal eigenvalues"),
        ([2.0, 1.0], [1.0, 1.0], [1.0, 0.0], 1, "`noise_variances` must be positive"),
        ([2.0, 1.0], [1.0, 1.0], [1.0, 1.0, 1.0], 1, "one for each of 2 eigenvalues"),
        ([2.0, 1.0], [1.0], 1.0, 1, "`coordinates` must be finite, one for each of 2"),
        ([2.0, 1.0], [1.0, math.inf], 1.0, 1, "`coordinates` must be finite"),
        ([2.0, 1.0], [1.0, 0.0], 1.0, 1, "a gradient in both subspaces"),
        ([2.0, 1.0], torch.ones(3, 2), 1.0, 1, "`coordinates` must be one state"),
        ([2.0, 1.0], [1.0, 1.0], torch.ones(3, 2), 1, "one quadratic"),
    ],
)
def test_arguments_are_checked(eigenvalues, coordinates, variances, k, message):
    with pytest.raises(ValueError, match=message):
        quadratic_sgd(eigenvalues, coordinates, variances, num_dominant=k)
