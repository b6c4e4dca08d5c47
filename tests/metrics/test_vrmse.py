"""Errors over the variance against numpy, in one piece and accumulated."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.metrics import VRMSE, variance_scaled_errors


def fields(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reference = 3 + 2 * torch.randn(*shape, generator=generator)
    return reference + 0.1 * torch.randn(*shape, generator=generator), reference


@pytest.mark.parametrize(("shape", "spatial_dims"), [((5, 2, 12), 1), ((4, 2, 6, 9), 2), ((2, 1, 4, 5, 6), 3)])
def test_each_field_is_scaled_by_its_own_variance(shape, spatial_dims):
    predicted, reference = fields(*shape)
    found = variance_scaled_errors(predicted, reference, spatial_dims=spatial_dims)
    assert found.shape == shape[:2]
    for index in np.ndindex(*shape[:2]):
        truth, guess = reference[index].double().numpy(), predicted[index].double().numpy()
        expected = np.sqrt(np.mean((guess - truth) ** 2) / (np.var(truth, ddof=1) + 1e-7))
        assert found[index].item() == pytest.approx(expected, rel=1e-12)


def test_the_mean_of_a_field_scores_one():
    _, reference = fields(3, 1, 64, 64)
    mean = reference.mean(dim=(-2, -1), keepdim=True).expand_as(reference)
    assert variance_scaled_errors(mean, reference).tolist() == [[pytest.approx(1, abs=2e-4)]] * 3


@given(seed=st.integers(0, 1000), cut=st.integers(1, 6), factor=st.floats(0.1, 100))
@settings(max_examples=30, deadline=None)
def test_neither_batches_nor_units_matter(seed, cut, factor):
    predicted, reference = fields(7, 2, 5, 6, seed=seed)
    whole, parts = VRMSE(), VRMSE()
    whole.update(predicted, reference)
    for part in (slice(cut, None), slice(0, cut)):
        parts.update(factor * predicted[part] - 4, factor * reference[part] - 4)
    assert parts.compute().item() == pytest.approx(whole.compute().item(), rel=1e-3 if factor < 1 else 1e-5)


def test_fields_are_kept_apart_on_request():
    predicted, reference = fields(6, 3, 8, 8)
    metric = VRMSE(num_fields=3)
    metric.update(predicted, reference)
    expected = variance_scaled_errors(predicted, reference).mean(dim=0)
    assert torch.allclose(metric.compute(), expected, rtol=1e-14)
    with pytest.raises(ValueError, match="3 fields before space"):
        metric.update(predicted[:, :2], reference[:, :2])


def test_a_prediction_that_is_not_finite_is_not_passed_over():
    predicted, reference = fields(4, 1, 8, 8)
    predicted[2, 0, 3, 3] = torch.nan
    metric = VRMSE()
    metric.update(predicted, reference)
    assert metric.compute().isnan()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: variance_scaled_errors(torch.zeros(2, 3), torch.zeros(3, 2)), "the same shape"),
        (lambda: variance_scaled_errors(torch.zeros(2, 3), torch.zeros(2, 3), spatial_dims=3), "spatial_dims"),
        (lambda: VRMSE(spatial_dims=0), "spatial_dims"),
        (lambda: VRMSE().compute(), "needs a sample"),
    ],
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_unusable_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
