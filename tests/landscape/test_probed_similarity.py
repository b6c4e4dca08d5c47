"""Alignment of layers at two weights of one module, against that of two modules."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from lightning_regimes import LossProbe
from lightning_regimes.landscape import cka, probed_cka


class Classifier(nn.Module):
    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Linear(6, 12),
            nn.BatchNorm1d(12),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.Linear(12, 8),
            nn.ReLU(),
            nn.Linear(8, 3),
        )
        self.criterion = nn.CrossEntropyLoss()

    def diagnostic_loss(self, batch):
        return self.criterion(self.net(batch["inputs"]), batch["labels"])


def batches(count=3, size=20):
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "inputs": torch.randn(size, 6, generator=generator),
            "labels": torch.randint(3, (size,), generator=generator),
        }
        for _ in range(count)
    ]


def trained(seed):
    """Running statistics that are not those of a new module."""
    module = Classifier(seed)
    for batch in batches(5):
        module.diagnostic_loss(batch)
    return module


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_equals_that_of_two_modules_with_their_statistics(estimator):
    first, second = trained(0), trained(1)
    expected = cka(
        first,
        second,
        batches(),
        ["net.0", "net.1", "net.4", "net.6"],
        estimator=estimator,
        forward=lambda module, batch: module.net(batch["inputs"]),
    )
    before = copy.deepcopy(first.state_dict())
    found = probed_cka(LossProbe(first, batches()), second, expected.layers, estimator=estimator)
    assert found.layers == expected.layers
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-6)
    assert found.num_samples == 60
    for name, value in first.state_dict().items():
        assert torch.equal(value, before[name])
    assert first.training


def test_layers_by_default_are_those_with_a_row_a_sample():
    probe = LossProbe(trained(0), batches())
    found = probed_cka(probe, trained(1))
    assert found.layers == tuple(f"net.{index}" for index in range(7))
    same = probed_cka(probe, trained(0))
    np.testing.assert_allclose(same.values, 1.0, atol=1e-12)


def test_state_dict_and_vector_serve_as_well():
    first, second = trained(0), trained(1)
    probe = LossProbe(first, batches())
    whole = probed_cka(probe, second, "net.6").values
    np.testing.assert_array_equal(probed_cka(probe, second.state_dict(), "net.6").values, whole)
    vector = LossProbe(second, batches()).point()
    # A vector has no running statistics: the first network's stay.
    half = copy.deepcopy(second)
    for name, buffer in half.named_buffers():
        buffer.copy_(dict(first.named_buffers())[name])
    np.testing.assert_array_equal(probed_cka(probe, vector, "net.6").values, probed_cka(probe, half, "net.6").values)


def test_what_the_probe_holds_fixed_comes_with_the_other_weights():
    first, second = trained(0), trained(1)
    whole = probed_cka(LossProbe(first, batches()), second, "net.6").values
    part = probed_cka(LossProbe(first, batches(), parameters="net.6.*"), second, "net.6").values
    np.testing.assert_array_equal(part, whole)


def test_what_a_metric_keeps_in_the_state_dict_is_no_part_of_a_solution():
    class Measured(Classifier):
        def __init__(self, seed):
            super().__init__(seed)
            self.mean = MeanMetric()
            self.mean.persistent(True)

    first = Measured(0)
    first.mean.update(3.0)
    assert any(name.startswith("mean.") for name in first.state_dict())
    found = probed_cka(LossProbe(first, batches()), first.state_dict())
    np.testing.assert_allclose(found.values, 1.0, atol=1e-12)


def test_a_layer_that_was_named_wrongly_is_an_error():
    with pytest.raises(ValueError, match="`layers` has 'nothing', which matches no submodule"):
        probed_cka(LossProbe(trained(0), batches()), trained(1), "nothing")
    with pytest.raises(ValueError, match="at least 4 samples"):
        probed_cka(LossProbe(trained(0), batches(size=3)), trained(1))


def test_a_constant_layer_has_no_alignment():
    class Constant(Classifier):
        def diagnostic_loss(self, batch):
            return F.cross_entropy(self.net(0 * batch["inputs"]), batch["labels"])

    with pytest.warns(UserWarning, match="CKA is undefined"):
        found = probed_cka(LossProbe(Constant(0), batches()), Constant(1))
    assert np.isnan(found.values).all()
