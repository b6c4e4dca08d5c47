import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.theory import falling_steps, simulate_quadratic_sgd, steady_alignment

DOMINANT, VARIANCE, STEP_SIZE = 50, 0.25, 0.003
# The published experiment: λ_k / λ_{k+1} → (Σ_D λ²β / Σ λ²β, Σ_D λ / Σ λ).
PUBLISHED_STEADY = {
    5: (0.5595, 0.5273),
    10: (0.7172, 0.6884),
    20: (0.8352, 0.8147),
    50: (0.9268, 0.9164),
    100: (0.9620, 0.9563),
    200: (0.9806, 0.9777),
    300: (0.9870, 0.9850),
    400: (0.9902, 0.9887),
    500: (0.9922, 0.9909),
}


def published_eigenvalues(dominance):
    dominant = torch.linspace(100, 80, DOMINANT, dtype=torch.float64)
    bulk = torch.linspace(7, 1, 450, dtype=torch.float64) * 80 / (dominance + 0.1) / 7
    return torch.cat([dominant, bulk])


def normal_start(seed, size=500):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("dominance", PUBLISHED_STEADY)
def test_published_steady_alignment(dominance):
    eigenvalues, (exact, small) = published_eigenvalues(dominance), PUBLISHED_STEADY[dominance]
    steady = steady_alignment(eigenvalues, VARIANCE, num_dominant=DOMINANT, step_size=STEP_SIZE)
    assert steady == pytest.approx(exact, abs=1e-4)
    limit = steady_alignment(eigenvalues, VARIANCE, num_dominant=DOMINANT)
    assert limit == pytest.approx(small, abs=1e-4)
    assert limit == pytest.approx(float(eigenvalues[:DOMINANT].sum() / eigenvalues.sum()), rel=1e-12)
    nearly = steady_alignment(eigenvalues, VARIANCE, num_dominant=DOMINANT, step_size=1e-9)
    assert nearly == pytest.approx(limit, rel=1e-6)


def test_steady_alignment_is_a_fixed_point_of_the_second_moments():
    eigenvalues = torch.linspace(9, 0.5, 20, dtype=torch.float64)
    variances = torch.linspace(0.1, 2, 20, dtype=torch.float64)
    moments = torch.ones(20, dtype=torch.float64)
    for _ in range(5000):
        moments = (1 - 0.1 * eigenvalues) ** 2 * moments + 0.01 * variances
    squares = eigenvalues**2 * moments
    steady = steady_alignment(eigenvalues, variances, num_dominant=6, step_size=0.1)
    assert steady == pytest.approx(float(squares[:6].sum() / squares.sum()), rel=1e-12)


def test_simulation_settles_at_the_steady_alignment_after_two_phases():
    eigenvalues = torch.stack([published_eigenvalues(dominance) for dominance in PUBLISHED_STEADY])
    run = simulate_quadratic_sgd(
        eigenvalues, normal_start(42), VARIANCE, num_dominant=DOMINANT, step_size=STEP_SIZE, steps=30_000, seed=42
    )
    settled = run.alignment[-10_000:].mean(0)
    for value, curve, row in zip(settled, run.alignment.T, eigenvalues, strict=True):
        steady = steady_alignment(row, VARIANCE, num_dominant=DOMINANT, step_size=STEP_SIZE)
        assert float(value) == pytest.approx(steady, abs=0.01)
        assert float(curve[:200].min()) < 0.25 * steady


def expected_alignments(eigenvalues, place, variances, k, rate, steps):
    moments, alignments = place**2, []
    for _ in range(steps + 1):
        squares = eigenvalues**2 * moments
        alignments.append(float(squares[:k].sum() / squares.sum()))
        moments = (1 - rate * eigenvalues) ** 2 * moments + rate**2 * variances
    return alignments


def test_alignment_falls_for_as_many_steps_as_guaranteed():
    rate, k = 0.004, 5
    eigenvalues = torch.cat([torch.linspace(10, 9, k), torch.linspace(2, 1.5, 15)]).double()
    variances = torch.full_like(eigenvalues, 1e-3)
    place = 30 * normal_start(1, 20).abs() + 1
    steps = falling_steps(eigenvalues, place, variances, num_dominant=k, step_size=rate)
    assert steps > 100
    alignments = expected_alignments(eigenvalues, place, variances, k, rate, steps)
    assert all(after < before for before, after in itertools.pairwise(alignments))


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.floats(0.01, 0.99), st.integers(1, 9))
def test_guarantee_of_falling_holds_on_random_states(seed, fraction, k):
    generator = torch.Generator().manual_seed(seed)
    eigenvalues, place, variances = 0.5 + torch.rand(3, 10, generator=generator, dtype=torch.float64)
    eigenvalues = eigenvalues.sort(descending=True).values
    gap, spread = eigenvalues[k - 1] - eigenvalues[k], eigenvalues[0] ** 2 - eigenvalues[-1] ** 2
    rate = fraction * float(torch.minimum(1 / eigenvalues[0], 2 * gap / spread))
    place = 100 * place
    steps = min(200, falling_steps(eigenvalues, place, variances, num_dominant=k, step_size=rate))
    alignments = expected_alignments(eigenvalues, place, variances, k, rate, steps)
    assert all(after <= before * (1 + 1e-14) for before, after in itertools.pairwise(alignments))


def test_guarantee_of_falling_from_its_formula():
    # One dominant and one bulk direction: with λ = (4, 1), κ² = 1, η = 0.1, β = 0.1 / 6.4 = 1/64,
    # δ = 16 · 16 / (1 · 16 · (2 · 3 / 0.1 − 15)) = 16/45.
    expected = math.floor(math.log((100 - 1 / 64) / (16 / 45 - 1 / 64)) / (-2 * math.log(0.6)))
    assert falling_steps([4.0, 1.0], [10.0, 1.0], 1.0, num_dominant=1, step_size=0.1) == expected == 5
    assert falling_steps([4.0, 1.0], [0.5, 1.0], 1.0, num_dominant=1, step_size=0.1) == 0


def test_simulation_follows_the_second_moments():
    eigenvalues, rate, runs, steps = torch.tensor([4.0, 2.0, 0.5]).double(), 0.2, 20_000, 7
    start, variances = torch.tensor([1.0, -2.0, 3.0]).double(), torch.tensor([0.5, 1.0, 2.0]).double()
    run = simulate_quadratic_sgd(
        eigenvalues, start.expand(runs, 3), variances, num_dominant=1, step_size=rate, steps=steps
    )
    moments = start**2
    for _ in range(steps):
        moments = (1 - rate * eigenvalues) ** 2 * moments + rate**2 * variances
    squares = run.coordinates**2
    assert ((squares.mean(0) - moments).abs() < 4 * squares.std(0) / math.sqrt(runs)).all()
    assert run.alignment.shape == run.loss.shape == (steps + 1, runs)
    torch.testing.assert_close(run.loss[-1], (eigenvalues * squares).sum(1) / 2)
    torch.testing.assert_close(run.alignment[-1], 16 * squares[:, 0] / (eigenvalues**2 * squares).sum(1))
    torch.testing.assert_close(run.loss[0], torch.full((runs,), 8.25, dtype=torch.float64))
    assert float(run.alignment[0, 0]) == pytest.approx(16 / (16 + 16 + 2.25), rel=1e-12)


def test_simulation_has_a_private_generator():
    arguments = {"num_dominant": 1, "step_size": 0.1, "steps": 5}
    before = torch.get_rng_state()
    first = simulate_quadratic_sgd([2.0, 1.0], [1.0, 1.0], 1.0, seed=3, **arguments)
    assert torch.equal(torch.get_rng_state(), before)
    again = simulate_quadratic_sgd([2.0, 1.0], [1.0, 1.0], 1.0, seed=3, **arguments)
    other = simulate_quadratic_sgd([2.0, 1.0], [1.0, 1.0], 1.0, seed=4, **arguments)
    assert torch.equal(first.coordinates, again.coordinates)
    assert not torch.equal(first.coordinates, other.coordinates)


def simulate(eigenvalues=(2.0, 1.0), coordinates=(1.0, 1.0), step_size=0.1, steps=3):
    return simulate_quadratic_sgd(eigenvalues, coordinates, 1.0, num_dominant=1, step_size=step_size, steps=steps)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: steady_alignment([2.0, 1.0], 1.0, num_dominant=1, step_size=1.0),
            r"`step_size` must be in \[0, 2/λ_1",
        ),
        (lambda: steady_alignment(torch.tensor([[2.0, 1.0]]), 1.0, num_dominant=1), "those of one quadratic"),
        (lambda: falling_steps([4.0, 1.0], [9.0, 1.0], 1.0, num_dominant=1, step_size=0.25), r"in \(0, 0.25\)"),
        (lambda: falling_steps([4.0, 1.0], [0.1, 1.0], 1.0, num_dominant=1, step_size=0.1), "exceed their stationary"),
        (lambda: falling_steps([4.0, 1.0], torch.ones(2, 2), 1.0, num_dominant=1, step_size=0.1), "one state"),
        (lambda: simulate(coordinates=(0.0, 0.0)), "must not be all zero"),
        (lambda: simulate(step_size=0.0), "`step_size` must be positive"),
        (lambda: simulate(steps=-1), "`steps`"),
        (lambda: simulate(step_size=50.0, steps=500), "makes the run diverge; 2/λ_1 is 1"),
    ],
)
def test_arguments_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
