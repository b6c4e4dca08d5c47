import math

import pytest
import torch

from lightning_regimes.theory import (
    equal_split_threshold,
    optimal_split,
    relative_angles,
    three_layer_loss,
    three_layer_surrogate_loss,
    two_layer_loss,
    two_layer_surrogate_loss,
)


def haar(size, generator):
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return q * r.diagonal().sign()


def simulate(forward, weights, target, rates, *, signal_only=False):
    """Test losses of gradient descent by automatic differentiation."""
    weights = [weight.clone() for weight in weights]
    losses = []
    for pair in [*rates, None]:
        leaves = [weight.detach().requires_grad_() for weight in weights]
        output = forward(*leaves)
        losses.append(float((output.detach() - target).square().sum()))
        if pair is None:
            return torch.tensor(losses, dtype=torch.float64)
        loss = -(output * target).sum() if signal_only else 0.5 * (output - target).square().sum()
        gradients = torch.autograd.grad(loss, leaves)
        weights = [w - rate * g for w, rate, g in zip(weights, pair, gradients, strict=True)]
    return None


def two_layers(h, seed):
    generator = torch.Generator().manual_seed(seed)
    first, second, q = (haar(h, generator) for _ in range(3))
    return (lambda a, b: a @ b / h), (first, second), q


def three_layers(h, seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = haar(h, generator), haar(h, generator)
    readout, target = (torch.randn(h, generator=generator, dtype=torch.float64) / math.sqrt(h) for _ in range(2))
    return (lambda a, b: a @ b @ readout / math.sqrt(h)), (first, second), readout, target


def some_rates(steps, total, seed=0):
    fractions = torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.stack([fractions * total, (1 - fractions) * total], dim=-1)


@pytest.mark.parametrize("signal_only", [False, True])
def test_two_layers_are_the_network_itself(signal_only):
    h, steps = 60, 6
    forward, weights, q = two_layers(h, seed=1)
    rates = some_rates(steps, 0.8 * h**1.5)
    simulated = simulate(forward, weights, q / math.sqrt(h), rates, signal_only=signal_only)
    angles = relative_angles(weights[0] @ weights[1], q)
    exact = two_layer_loss(rates, width=h, angles=angles, signal_only=signal_only)
    torch.testing.assert_close(exact, simulated, rtol=1e-12, atol=1e-12)
    assert float(simulated[-1]) < 0.2 or signal_only


@pytest.mark.parametrize("signal_only", [False, True])
def test_three_layers_are_the_network_itself(signal_only):
    h, steps = 60, 8
    forward, weights, readout, target = three_layers(h, seed=2)
    rates = some_rates(steps, (0.3 if signal_only else 1.0) * h**0.5)
    simulated = simulate(forward, weights, target, rates, signal_only=signal_only)
    exact = three_layer_loss(
        rates,
        width=h,
        overlap=float(target @ weights[0] @ weights[1] @ readout),
        readout_square=float(readout @ readout),
        target_square=float(target @ target),
        signal_only=signal_only,
    )
    torch.testing.assert_close(exact, simulated, rtol=1e-12, atol=1e-12)


def test_one_step_has_the_closed_form():
    """Per instance, and as a mean over the Haar measure."""
    h = 60
    forward, weights, q = two_layers(h, seed=3)
    first, second = 0.3 * h**1.5, 0.9 * h**1.5
    a, b = first / h**2, second / h**2
    product, target = forward(*weights) * h, q / math.sqrt(h)
    signal = ((1 - a) * second + (1 - b) * first) / h**2 - 1
    matrix = (1 - a) * (1 - b) * product / h + signal * target + first * second / h**3 * target @ product.T @ target
    angles = relative_angles(product, q)
    exact = two_layer_loss([[first, second]], width=h, angles=angles)[-1]
    assert float(exact) == pytest.approx(float(matrix.square().sum()), rel=1e-13)
    mean = (
        (1 - a) ** 2 * (1 - b) ** 2 / h
        + signal**2
        + (first * second) ** 2 / h**7
        + 2 * (1 - a) * (1 - b) * first * second / h**5
    )
    assert float(two_layer_loss([[first, second]], width=h)[-1]) == pytest.approx(mean, rel=1e-13)

    c, b_square, rho = 1.3, 0.8, 0.1
    first, second = 0.3 * h**0.5, 0.9 * h**0.5
    contraction = c * (first + second) / h + c * first * second * h**-1.5 * (rho - c / math.sqrt(h))
    residual = b_square - 2 * rho / math.sqrt(h) + c / h
    exact = three_layer_loss([[first, second]], width=h, overlap=rho, readout_square=c, target_square=b_square)
    assert float(exact[-1]) == pytest.approx((1 - contraction) ** 2 * residual, rel=1e-13)


def test_means_are_those_of_many_networks():
    h, rates = 24, some_rates(3, 1.2 * 24**1.5)
    losses = []
    for seed in range(150):
        _, (first, second), q = two_layers(h, seed)
        losses.append(two_layer_loss(rates, width=h, angles=relative_angles(first @ second, q)))
    found = torch.stack(losses)
    errors = found.std(0) / math.sqrt(len(found))
    assert bool(((found.mean(0) - two_layer_loss(rates, width=h)).abs() < 4 * errors + 1e-12).all())

    rates = some_rates(3, 1.2 * h**0.5)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(800, h, generator=generator, dtype=torch.float64), dim=-1)
    found = torch.stack([three_layer_loss(rates, width=h, overlap=float(x)) for x in vectors[:, 0]])
    errors = found.std(0) / math.sqrt(len(found))
    assert bool(((found.mean(0) - three_layer_loss(rates, width=h)).abs() < 4 * errors + 1e-12).all())


@pytest.mark.parametrize("width", [2, 3, 50])
def test_quadrature_has_the_moments_of_a_coordinate(width):
    """After a step, the three-layer loss is a quartic in the overlap, of which only the even moments count."""
    rates = torch.tensor([[0.4, 0.7]], dtype=torch.float64) * math.sqrt(width)
    nodes = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float64)
    values = torch.stack([three_layer_loss(rates, width=width, overlap=float(x))[-1] for x in nodes])
    coefficients = torch.linalg.solve(torch.linalg.vander(nodes), values)
    moments = torch.tensor([1, 0, 1 / width, 0, 3 / (width * (width + 2))], dtype=torch.float64)
    mean = three_layer_loss(rates, width=width)[-1]
    assert float(mean) == pytest.approx(float(coefficients @ moments), rel=1e-12)


@pytest.mark.parametrize("scaled", [0.9, 2.0])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5])
def test_surrogates_are_means_along_the_signal(scaled, share):
    """Exactly after two steps; after one, without a term that is named."""
    h = 100
    first, second = share * scaled * h**1.5, (1 - share) * scaled * h**1.5
    losses = two_layer_loss([[first, second]] * 2, width=h, signal_only=True)
    missing = 2 * first * second / h**5
    assert float(losses[1]) == pytest.approx(
        float(two_layer_surrogate_loss(first, second, width=h)) + missing, rel=1e-12
    )
    assert float(losses[2]) == pytest.approx(
        float(two_layer_surrogate_loss(first, second, width=h, steps=2)), rel=1e-12
    )

    first, second = share * scaled * h**0.5, (1 - share) * scaled * h**0.5
    losses = three_layer_loss([[first, second]] * 2, width=h, signal_only=True)
    missing = 2 * first * second / h**3
    assert float(losses[1]) == pytest.approx(
        float(three_layer_surrogate_loss(first, second, width=h)) + missing, rel=1e-12
    )
    assert float(losses[2]) == pytest.approx(
        float(three_layer_surrogate_loss(first, second, width=h, steps=2)), rel=1e-12
    )


@pytest.mark.parametrize("share", [0.02, 0.5])
def test_surrogate_beside_simulated_networks(share):
    h, scaled, seeds = 100, 1.5, range(5)
    pair = (share * scaled * h**1.5, (1 - share) * scaled * h**1.5)
    runs = []
    for seed in seeds:
        forward, weights, q = two_layers(h, seed)
        runs.append(simulate(forward, weights, q / math.sqrt(h), [pair] * 2, signal_only=True))
    simulated = torch.stack(runs).mean(0)
    for steps in (1, 2):
        closed = float(two_layer_surrogate_loss(*pair, width=h, steps=steps))
        assert abs(closed - float(simulated[steps])) <= 0.005


@pytest.mark.parametrize("method", ["exact", "surrogate"])
@pytest.mark.parametrize(("network", "order"), [("two_layer", 1.5), ("three_layer", 0.5)])
def test_a_single_layer_is_best_for_one_step_and_equal_rates_for_two(method, network, order):
    h = 1000
    one, two = (optimal_split(1.5 * h**order, width=h, steps=steps, network=network, method=method) for steps in (1, 2))
    assert one.fraction == 0.0
    assert one.equal_loss == float(one.losses.max())
    assert two.fraction == 0.5
    assert two.loss == two.equal_loss < float(two.losses[0])
    assert two.figure().axes[0].get_ylabel() == "test loss after 2 steps"


@pytest.mark.parametrize(
    ("scaled", "network", "order", "flip"),
    [
        (0.9, "two_layer", 1.5, 37),
        (1.5, "two_layer", 1.5, 106),
        (2.0, "two_layer", 1.5, 257),
        (2.5, "two_layer", 1.5, 604),
        (1.5, "three_layer", 0.5, None),
        (2.5, "three_layer", 0.5, None),
    ],
)
def test_threshold_is_where_the_curve_turns(scaled, network, order, flip):
    surrogate = two_layer_surrogate_loss if network == "two_layer" else three_layer_surrogate_loss

    def equal_is_best(width):
        half = scaled * width**order / 2
        near = surrogate(half * 1.002, half * 0.998, width=width, steps=2)
        return float(near) > float(surrogate(half, half, width=width, steps=2))

    threshold = equal_split_threshold(scaled, network=network)
    first = next(width for width in range(2, 2000) if equal_is_best(width))
    assert first == math.ceil(threshold)
    if flip is not None:
        assert first == flip
        u = scaled**2 / 4
        leading = (((1 + u) ** 3 + 8 * u) / scaled + 2 * scaled * (1 + u)) ** 2
        assert leading == pytest.approx(flip, rel=0.07)


@pytest.mark.parametrize(("scaled", "flip"), [(0.9, 104), (1.5, 116), (1.9, 176)])
def test_threshold_of_the_true_gradient_is_elsewhere(scaled, flip):
    for width, best in ((flip - 2, False), (flip, True)):
        half = scaled * width**1.5 / 2
        equal, near = two_layer_loss([[[half, half]] * 2, [[1.04 * half, 0.96 * half]] * 2], width=width)[:, 2]
        assert bool(near > equal) is best


def test_schedules():
    """Equal rates at all steps, and one layer first; then the best that two free steps can do."""
    h = 1000
    for scaled, equal_losses, unequal_losses in (
        (1.9, (0.8885, 0.6543, 0.3085, 0.1562), (0.8846, 0.5653, 0.1342, 0.0085)),
        (1.5, (0.9108, 0.7560, 0.4770, 0.2436), (0.9085, 0.7091, 0.3711, 0.0877)),
    ):
        total = scaled * h**1.5
        equal = [[total / 2, total / 2]] * 4
        unequal = [[0.02 * total, 0.98 * total], *equal[1:]]
        losses = two_layer_loss([equal, unequal], width=h)
        torch.testing.assert_close(losses[0, 1:], torch.tensor(equal_losses).double(), rtol=0, atol=1e-3)
        torch.testing.assert_close(losses[1, 1:], torch.tensor(unequal_losses).double(), rtol=0, atol=1e-3)

    total = 1.9 * h**1.5
    second = torch.linspace(0, 1, 41, dtype=torch.float64)
    alternating = torch.stack(
        [torch.tensor([0.0, total]).double().expand(41, 2), torch.stack([second, 1 - second], -1) * total], dim=1
    )
    losses = two_layer_loss(alternating, width=h)[:, 2]
    assert float(losses.min()) == pytest.approx(0.5002, abs=1e-3)
    assert float(second[losses.argmin()]) > 0.95


def test_a_common_split_turns_unequal_again():
    fractions = [optimal_split(1.5 * 1000**1.5, width=1000, steps=steps).fraction for steps in (1, 2, 3, 4)]
    assert fractions[:3] == [0.0, 0.5, 0.5]
    assert 0.2 < min(fractions[3], 1 - fractions[3]) < 0.45


def test_wrong_arguments():
    rates = [[1.0, 1.0]]
    for call, message in (
        (lambda: two_layer_loss([1.0, 1.0], width=5), "`learning_rates` holds two rates a step"),
        (lambda: two_layer_loss([[math.nan, 1.0]], width=5), "`learning_rates` are finite"),
        (lambda: two_layer_loss(rates, width=1), "`width` is at least 2"),
        (lambda: two_layer_loss(rates, width=5, angles=torch.zeros(4)), "`angles` has one angle"),
        (lambda: three_layer_loss(rates, width=5, overlap=1.5), "`overlap` is at most"),
        (lambda: three_layer_loss(rates, width=5, target_square=0.0), "are positive"),
        (lambda: relative_angles(torch.ones(3, 3), torch.eye(3)), "`product` is an orthogonal matrix"),
        (lambda: relative_angles(torch.eye(3), torch.eye(4)), "square and alike"),
        (lambda: two_layer_surrogate_loss(1.0, 1.0, width=5, steps=3), "`steps` is 1 or 2"),
        (lambda: equal_split_threshold(0.0), "`scaled_sum` is positive"),
        (lambda: equal_split_threshold(1.0, network="mlp"), "`network` is one of"),
        (lambda: optimal_split(1.0, width=5, points=4), "`points` is odd"),
        (lambda: optimal_split(1.0, width=5, method="guess"), "`method` is"),
        (lambda: optimal_split(1.0, width=5, network="mlp"), "`network` is one of"),
        (lambda: optimal_split(1.0, width=5, steps=0), "`steps` is at least 1"),
        (lambda: optimal_split(0.0, width=5), "`total` is positive"),
        (lambda: optimal_split(1e300, width=5, steps=4), "makes training diverge"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
