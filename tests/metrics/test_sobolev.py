"""Errors in H¹ against waves whose slopes are known, and against neuraloperator's loss."""

import math

import pytest
import torch

from lightning_regimes.metrics import RelativeH1, relative_h1_errors, squared_h1_norm


def fields(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return reference + 0.1 * torch.randn(*shape, generator=generator, dtype=torch.float64), reference


@pytest.mark.parametrize("lengths", [None, (2.0, 0.5)])
def test_a_periodic_wave(lengths):
    x, y = torch.arange(16, dtype=torch.float64) / 16, torch.arange(24, dtype=torch.float64) / 24
    wave = torch.sin(2 * math.pi * (2 * x[:, None] + 3 * y[None, :]))[None, None]
    sides = lengths or (1.0, 1.0)
    # Central differences of a wave of number k on n points: k sinc(2πk/n).
    slopes = [math.sin(2 * math.pi * k / n) * n / side for k, n, side in ((2, 16, sides[0]), (3, 24, sides[1]))]
    expected = 0.5 * (1 + slopes[0] ** 2 + slopes[1] ** 2)
    assert squared_h1_norm(wave, lengths=lengths).item() == pytest.approx(expected, rel=1e-12)


def test_a_parabola_has_its_exact_slope_up_to_the_ends():
    x = torch.linspace(0, 2, 9, dtype=torch.float64)
    found = squared_h1_norm((x**2)[None, None], spatial_dims=1, periodic=False, lengths=(2.0,))
    assert found.item() == pytest.approx((x**4 + 4 * x**2).mean().item(), rel=1e-12)


@pytest.mark.parametrize(("shape", "spatial_dims"), [((5, 1, 20), 1), ((4, 1, 8, 12), 2), ((3, 1, 6, 5, 7), 3)])
def test_it_is_the_loss_of_neuraloperator_on_periodic_fields(shape, spatial_dims):
    from neuralop.losses import H1Loss

    predicted, reference = fields(*shape)
    peer = H1Loss(d=spatial_dims, reduction="mean")(predicted, reference)
    found = relative_h1_errors(predicted, reference, spatial_dims=spatial_dims)
    assert found.mean().item() == pytest.approx(peer.item(), rel=1e-6)


def test_the_metric_is_the_mean_over_samples():
    predicted, reference = fields(6, 2, 8, 8)
    metric = RelativeH1(periodic=False)
    for part in (slice(0, 2), slice(2, 6)):
        metric.update(predicted[part].float(), reference[part].float())
    expected = relative_h1_errors(predicted, reference, periodic=False).mean()
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relative_h1_errors(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5)), "the same shape"),
        (lambda: squared_h1_norm(torch.zeros(1, 1, 4, 2)), "3 points"),
        (lambda: squared_h1_norm(torch.zeros(1, 1, 4, 4), lengths=(1.0, 0.0)), "positive"),
        (lambda: RelativeH1().update(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)), "zero everywhere"),
    ],
)
def test_unusable_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
