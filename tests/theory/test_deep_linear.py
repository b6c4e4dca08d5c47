import functools
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.theory import bifurcation, deep_linear_modes, deep_linear_spectrum

# The published experiment: widths 16-32-…-32-10, a target of rank 5, initial entries of variance 0.01.
PUBLISHED_RATIOS = {
    1000: [1.994, 2.908, 3.697, 4.378, 4.974, 5.501],
    2000: [1.997, 2.934, 3.759, 4.480, 5.114, 5.676],
    10000: [1.999, 2.970, 3.860, 4.657, 5.369, 6.009],
}
RANK = 5


def published_dims(depth):
    return (16, *[32] * (depth - 1), 10)


def published_product():
    generator = torch.Generator().manual_seed(12138)
    return 0.1 * torch.randn(10, 16, generator=generator, dtype=torch.float64)


@functools.cache
def published_modes(depth):
    start = torch.linalg.svdvals(published_product()) ** (1 / depth)
    return deep_linear_modes(start, [1.0] * RANK + [0.0] * (10 - RANK), depth=depth)


def orthogonal_bases(dims, generator):
    return [torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64)).Q for d in dims]


def rectangular_diagonal(values, rows, columns):
    matrix = torch.zeros(rows, columns, dtype=torch.float64)
    matrix[range(len(values)), range(len(values))] = torch.as_tensor(values, dtype=torch.float64)
    return matrix


def product(weights):
    return functools.reduce(lambda below, above: above @ below, weights)


def dense_hessian_eigenvalues(weights, target):
    sizes, shapes = [w.numel() for w in weights], [w.shape for w in weights]

    def loss(flat):
        parts = flat.split(sizes)
        return 0.5 * (product([part.view(s) for part, s in zip(parts, shapes, strict=True)]) - target).square().sum()

    flat = torch.cat([w.detach().flatten() for w in weights])
    return torch.linalg.eigvalsh(torch.func.jacrev(torch.func.grad(loss))(flat)).flip(0)


def aligned_network(dims, singular_values, residual, seed):
    generator = torch.Generator().manual_seed(seed)
    bases = orthogonal_bases(dims, generator)
    weights = [
        bases[layer + 1] @ rectangular_diagonal(singular_values, dims[layer + 1], dims[layer]) @ bases[layer].T
        for layer in range(len(dims) - 1)
    ]
    target = product(weights) - bases[-1] @ rectangular_diagonal(residual, dims[-1], dims[0]) @ bases[0].T
    return weights, target


@pytest.mark.parametrize(
    ("dims", "singular_values", "residual"),
    [
        ((6, 8, 5, 4), [1.3, 0.9, 0.4, 0.1], [0.7, -0.5, 0.2, 1.1]),
        ((4, 7, 6, 7, 5), [1.0, 1.0, 0.6], [0.0, 0.0, -0.8, 0.3]),
        ((6, 3, 7), [0.8, 0.5], [0.4, -0.9, 0.6, -0.3, 0.1, 0.2]),
        ((5, 4), [0.7, 0.2], [0.3, 0.1]),
        ((3, 4, 4, 5, 4, 3, 3), [1.1, -0.9], []),
    ],
    ids=["depth 3", "depth 4", "bottleneck", "depth 1", "depth 6, negative mode, no residual"],
)
def test_spectrum_is_that_of_the_dense_hessian(dims, singular_values, residual):
    weights, target = aligned_network(dims, singular_values, residual, seed=len(dims))
    spectrum = deep_linear_spectrum(dims, singular_values, residual)
    truth = dense_hessian_eigenvalues(weights, target)
    assert spectrum.eigenvalues.shape == truth.shape
    assert (spectrum.eigenvalues - truth).abs().max() <= 1e-10


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 6), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_trace_and_gauss_newton_part(dims, random):
    values = [random.uniform(0, 1.5) for _ in range(min(dims))]
    residual = [random.uniform(-1, 1) for _ in range(min(dims[0], dims[-1]))]
    spectrum = deep_linear_spectrum(dims, values, residual)
    assert len(spectrum.eigenvalues) == sum(a * b for a, b in itertools.pairwise(dims))
    assert spectrum.gauss_newton.shape == (dims[0], dims[-1])
    # The residual's part has no diagonal: a layer's own second derivative vanishes.
    torch.testing.assert_close(spectrum.eigenvalues.sum(), spectrum.gauss_newton.sum(), rtol=1e-10, atol=1e-10)
    # Without a residual the Hessian is the Gauss–Newton matrix.
    exact = deep_linear_spectrum(dims, values)
    nonzero = exact.eigenvalues[exact.eigenvalues > 1e-9]
    expected = exact.gauss_newton.flatten().sort(descending=True).values
    torch.testing.assert_close(nonzero, expected[expected > 1e-9], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("depth", range(2, 8))
def test_exact_minimum_splits_by_depth(depth):
    dims = published_dims(depth)
    spectrum = deep_linear_spectrum(dims, [1.0] * RANK)
    near = [int((spectrum.eigenvalues - level).abs().lt(1e-8).sum()) for level in (depth, 1, 0)]
    weights = sum(a * b for a, b in itertools.pairwise(dims))
    assert near == [RANK**2, (16 + 10 - 2 * RANK) * RANK, weights - 25 - 80]
    split = spectrum.bifurcation(RANK)
    assert abs(split.ratio - depth) <= 1e-8
    assert [len(split.dominant), len(split.bulk)] == near[:2]
    assert split.rest.abs().max() <= 1e-8


@pytest.mark.parametrize("step", PUBLISHED_RATIOS)
@pytest.mark.parametrize("depth", range(2, 8))
def test_ratio_of_the_published_experiment(depth, step):
    modes = published_modes(depth)
    spectrum = deep_linear_spectrum(published_dims(depth), modes.singular_values[step], modes.residuals[step])
    assert spectrum.bifurcation(RANK).ratio == pytest.approx(PUBLISHED_RATIOS[step][depth - 2], abs=2e-3)


def test_ratio_of_a_network_trained_by_autograd():
    depth, steps = 3, 2000
    dims = published_dims(depth)
    left, start, right = torch.linalg.svd(published_product())
    bases = [right.T, *orthogonal_bases(dims[1:-1], torch.Generator().manual_seed(0)), left]
    weights = [
        (bases[k + 1] @ rectangular_diagonal(start ** (1 / depth), dims[k + 1], dims[k]) @ bases[k].T).requires_grad_()
        for k in range(depth)
    ]
    target = left[:, :RANK] @ right[:RANK]
    optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        (0.5 * (product(weights) - target).square().sum()).backward()
        optimizer.step()

    modes = published_modes(depth)
    for weight in weights:
        trained = torch.linalg.svdvals(weight.detach())[:10]
        expected = modes.singular_values[steps].sort(descending=True).values
        torch.testing.assert_close(trained, expected, rtol=1e-8, atol=1e-8)

    measured = dense_hessian_eigenvalues(weights, target)
    exact = deep_linear_spectrum(dims, modes.singular_values[steps], modes.residuals[steps]).eigenvalues
    assert (measured - exact).abs().max() <= 1e-8
    split = bifurcation(measured, rank=RANK, input_width=16, output_width=10)
    assert split.dominant_mean == pytest.approx(3.000, abs=1e-3)
    assert split.bulk_mean == pytest.approx(1.0224, abs=1e-4)
    assert split.ratio == pytest.approx(2.934, abs=1e-3)


@pytest.mark.parametrize("depth", range(2, 8))
def test_modes_without_a_target_decay_polynomially(depth):
    start, effective_rate = 0.8, 0.01 / (1 - 0.9)
    modes = deep_linear_modes([start], [0.0], depth=depth).singular_values[:, 0]
    exponent = 2 * depth - 2
    flow = (start**-exponent + exponent * effective_rate * 10_000) ** (-1 / exponent)
    assert float(modes[10_000]) == pytest.approx(flow, rel=0.01)
    slope = math.log(modes[10_000] / modes[5000]) / math.log(2)
    assert slope == pytest.approx(-1 / exponent, rel=0.02)


def test_modes_are_those_of_torch_sgd():
    start, targets = torch.tensor([0.5, 1.2, 0.3], dtype=torch.float64), torch.tensor([1.0, 2.0, 0.0]).double()
    layers = [start.clone().requires_grad_() for _ in range(4)]
    optimizer = torch.optim.SGD(layers, lr=0.02, momentum=0.8)
    for _ in range(100):
        optimizer.zero_grad()
        (0.5 * (math.prod(layers) - targets).square().sum()).backward()
        optimizer.step()
    modes = deep_linear_modes(start, targets, depth=4, learning_rate=0.02, momentum=0.8, steps=100)
    torch.testing.assert_close(modes.singular_values[-1], layers[0].detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(modes.residuals[-1], (math.prod(layers) - targets).detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(modes.singular_values[0], start)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: deep_linear_spectrum([3], [1.0]), "`dims` must hold at least two"),
        (lambda: deep_linear_spectrum([3, 0, 2], []), "`dims`"),
        (lambda: deep_linear_spectrum([3, 2, 3], [1.0, 1.0, 1.0]), "`singular_values` must hold at most 2"),
        (lambda: deep_linear_spectrum([3, 2, 3], [1.0], [0.0] * 4), "`residual` must hold at most 3"),
        (lambda: deep_linear_spectrum([3, 3], [math.nan]), "`singular_values` must be a vector of finite"),
        (lambda: deep_linear_modes([1.0], [1.0, 0.0], depth=2), "`targets` must have one value a mode"),
        (lambda: deep_linear_modes([1.0], [1.0], depth=0), "`depth`"),
        (lambda: deep_linear_modes([1.0], [1.0], depth=2, learning_rate=0.0), "`learning_rate` must be positive"),
        (lambda: deep_linear_modes([1.0], [1.0], depth=2, momentum=1.0), "`momentum`"),
        (lambda: deep_linear_modes([1.0], [1.0], depth=2, steps=-1), "`steps`"),
        (lambda: deep_linear_modes([3.0], [1.0], depth=5, learning_rate=1.0), "makes a mode diverge"),
        (lambda: bifurcation([1.0] * 9, rank=0, input_width=3, output_width=2), "`rank` must be from 1"),
        (lambda: bifurcation([1.0] * 9, rank=3, input_width=3, output_width=3), "leaves no bulk"),
        (lambda: deep_linear_spectrum([3, 2, 3], []).bifurcation(1).ratio, "positive mean bulk eigenvalue, got 0"),
        (lambda: bifurcation([1.0] * 4, rank=1, input_width=3, output_width=4), "at least 1 [+] 5 values"),
    ],
)
def test_arguments_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
