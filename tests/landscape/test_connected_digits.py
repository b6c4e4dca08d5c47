"""Networks on handwritten digits from different starts: the orders of barriers, and how similar they are inside."""

import functools

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from lightning_regimes import LossProbe
from lightning_regimes.landscape.loss_barrier import loss_barrier
from lightning_regimes.landscape.mode_connectivity import mode_connectivity
from lightning_regimes.landscape.similarity import cka
from lightning_regimes.landscape.weight_matching import weight_matching


@functools.cache
def digits():
    """The first 512 samples, and all others."""
    images, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    return (inputs[:512], targets[:512]), (inputs[512:], targets[512:])


def cross_entropy(module, batch):
    return F.cross_entropy(module(batch[0]), batch[1])


def error_percent(module, batch):
    return 100 * (module(batch[0]).argmax(dim=1) != batch[1]).float().mean()


@functools.cache
def trained(width, seed):
    """A tanh network 64-width-10 after 300 steps of Adam with rate 0.01 on batches of 64."""
    inputs, targets = digits()[0]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(64, width), nn.Tanh(), nn.Linear(width, 10))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(300):
        chosen = torch.randint(512, (64,), generator=generator)
        optimizer.zero_grad()
        cross_entropy(net, (inputs[chosen], targets[chosen])).backward()
        optimizer.step()
    return net


def minibatches():
    inputs, targets = digits()[0]
    return list(zip(inputs.split(64), targets.split(64), strict=True))


# The reference values were made with another implementation of all four, on the same networks.
@pytest.mark.parametrize(
    ("width", "linear", "permuted", "signed", "bezier"),
    [
        (16, 0.490, 0.060, 0.0215, 0.0083),
        (32, 0.237, 0.0156, 0.0074, 0.0014),
        (128, 0.0446, 0.0021, 0.0015, 0.0002),
    ],
)
def test_barrier_falls_from_line_to_matched_line_to_curve(width, linear, permuted, signed, bezier):
    first, second = trained(width, 0), trained(width, 1)
    probe = LossProbe(first, [digits()[0]], loss=cross_entropy)
    matched = {sign: weight_matching(first, second, sign=sign).state for sign in (False, True)}
    curve = mode_connectivity(
        probe, second, "bezier", training=LossProbe(first, minibatches(), loss=cross_entropy), steps=500
    )
    found = [
        loss_barrier(probe, second).value,
        loss_barrier(probe, matched[False]).value,
        loss_barrier(probe, matched[True]).value,
        curve.barrier,
    ]
    assert found == sorted(found, reverse=True)
    assert found[0] >= 5 * found[1]
    assert found[0] >= 20 * found[3]
    assert found[:3] == pytest.approx([linear, permuted, signed], rel=0.1)
    # A search may find a lower curve than another one did; half the difference of the ends is the least there is.
    assert curve.barrier <= 1.1 * bezier


def test_curve_also_connects_in_the_error_on_other_samples():
    first, second = trained(16, 0), trained(16, 1)
    test = LossProbe(first, [digits()[1]], loss=cross_entropy)
    training = LossProbe(first, minibatches(), loss=cross_entropy)
    line = mode_connectivity(test, second, metric=error_percent, points=5)
    curve = mode_connectivity(test, second, "bezier", metric=error_percent, points=5, training=training)
    assert line.value == pytest.approx(-21.3, abs=1.5)
    assert abs(curve.value) < 1.5


@pytest.mark.parametrize(("width", "expected"), [(16, 0.936), (32, 0.981), (128, 0.992)])
def test_wider_networks_are_more_alike(width, expected):
    result = cka(trained(width, 0), trained(width, 1), minibatches(), "1")
    assert result.value("1") == pytest.approx(expected, abs=0.02)
