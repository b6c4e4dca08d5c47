"""Relative errors against numpy, in one piece and accumulated."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_regimes.metrics import RelativeL2, relative_error


def fields(seed: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.randn(*shape, generator=generator)
    return reference + 0.1 * torch.randn(*shape, generator=generator), reference


@pytest.mark.parametrize("p", [1, 2])
def test_global_error_is_the_ratio_of_norms(p: int) -> None:
    predicted, reference = fields(0, 13, 3, 5)
    difference = (predicted.double() - reference.double()).numpy().ravel()
    expected = np.linalg.norm(difference, p) / np.linalg.norm(reference.double().numpy().ravel(), p)
    assert relative_error(predicted, reference, p=p).item() == pytest.approx(expected, rel=1e-14)


def test_samplewise_error_is_the_mean_over_samples() -> None:
    predicted, reference = fields(1, 6, 2, 8)
    expected = [
        np.linalg.norm((a - b).ravel()) / np.linalg.norm(b.ravel())
        for a, b in zip(predicted.double().numpy(), reference.double().numpy(), strict=True)
    ]
    assert relative_error(predicted, reference, samplewise=True).item() == pytest.approx(np.mean(expected), rel=1e-14)


@pytest.mark.parametrize("samplewise", [False, True])
@pytest.mark.parametrize("p", [1, 2])
def test_each_field_has_its_own_error(samplewise: bool, p: int) -> None:
    predicted, reference = fields(2, 4, 3, 7)
    each = relative_error(predicted, reference, p=p, field_dim=1, samplewise=samplewise)
    for index in range(3):
        alone = relative_error(predicted[:, index], reference[:, index], p=p, samplewise=samplewise)
        assert each[index].item() == pytest.approx(alone.item(), rel=1e-14)


@given(seed=st.integers(0, 1000), cut=st.integers(1, 11), samplewise=st.booleans(), p=st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_batches_do_not_matter(seed: int, cut: int, samplewise: bool, p: int) -> None:
    predicted, reference = fields(seed, 12, 3)
    metric = RelativeL2(p=p, samplewise=samplewise)
    for part in (slice(cut, None), slice(0, cut)):
        metric.update(predicted[part], reference[part])
    expected = relative_error(predicted, reference, p=p, samplewise=samplewise)
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-12)


def test_metric_keeps_fields_apart() -> None:
    predicted, reference = fields(3, 12, 2)
    metric = RelativeL2(field_dim=1, num_fields=2)
    metric.update(predicted[:5], reference[:5])
    metric.update(predicted[5:], reference[5:])
    torch.testing.assert_close(metric.compute(), relative_error(predicted, reference, field_dim=1))
    metric.reset()
    metric.update(reference, reference)
    assert metric.compute().tolist() == [0.0, 0.0]


def test_many_small_elements_are_accumulated_exactly() -> None:
    # In float32 the sum would stop growing at 2²⁴ elements' worth of ones.
    reference = torch.ones(2**22)
    metric = RelativeL2(p=1)
    for _ in range(5):
        metric.update(reference + 0.5, reference)
    assert metric.magnitude.item() == 5 * 2**22
    assert metric.compute().item() == 0.5


def test_complex_fields() -> None:
    reference = torch.tensor([3 + 4j, 0.0])
    assert relative_error(torch.tensor([3 + 4j, 1j]), reference).item() == pytest.approx(0.2)


def test_predictions_that_are_not_finite_stay_visible() -> None:
    reference = torch.ones(3)
    assert math.isnan(relative_error(torch.tensor([1.0, math.nan, 1.0]), reference).item())
    assert math.isinf(relative_error(torch.tensor([1.0, math.inf, 1.0]), reference).item())


def test_zero_reference_raises() -> None:
    with pytest.raises(ValueError, match="doesn't exist"):
        relative_error(torch.ones(3), torch.zeros(3))
    metric = RelativeL2(samplewise=True)
    with pytest.raises(ValueError, match="doesn't exist"):
        metric.update(torch.ones(2, 3), torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: relative_error(torch.ones(3), torch.ones(3, 1)), "same shape"),
        (lambda: relative_error(torch.ones(3), torch.ones(3), p=3), "1 or 2"),
        (lambda: relative_error(torch.ones(3), torch.ones(3), samplewise=True, field_dim=0), "counts samples"),
        (lambda: RelativeL2(p=0), "1 or 2"),
        (lambda: RelativeL2(field_dim=1), "go together"),
    ],
)
def test_wrong_arguments_raise(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
