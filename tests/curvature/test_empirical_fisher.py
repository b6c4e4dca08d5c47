"""The second moment of gradients against gradients taken one sample at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes.curvature import EmpiricalFisherOperator, eigsh
from lightning_regimes.probe import LossProbe


def sample_losses(module: Any, batch: Any) -> Tensor:
    return functional.cross_entropy(module(batch[0]), batch[1], reduction="none")


def mean_loss(module: Any, batch: Any) -> Tensor:
    return functional.cross_entropy(module(batch[0]), batch[1])


@pytest.fixture
def probe() -> LossProbe:
    """A classifier in float64 with 51 parameters, on batches of 20 and 3 samples."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    inputs, targets = torch.randn(23, 4, dtype=torch.float64), torch.arange(23) % 3
    return LossProbe(module, list(zip(inputs.split(20), targets.split(20), strict=True)), loss=mean_loss)


@pytest.fixture
def gradients(probe: LossProbe) -> Tensor:
    """One gradient a sample, shape (23, 51)."""
    module: nn.Module = probe._module
    rows = []
    for inputs, targets in probe._batches:
        for sample, target in zip(inputs, targets, strict=True):
            loss = functional.cross_entropy(module(sample), target)
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))]))
    return torch.stack(rows)


def test_equals_the_mean_of_outer_products(probe: LossProbe, gradients: Tensor) -> None:
    operator = EmpiricalFisherOperator(probe, sample_losses=sample_losses)
    product = operator @ torch.eye(51, dtype=torch.float64)
    torch.testing.assert_close(product, gradients.T @ gradients / 23, rtol=1e-10, atol=1e-14)
    assert operator.num_matvecs == 51
    assert operator.shape == (51, 51)
    assert operator.dtype == torch.float64
    assert operator.device == torch.device("cpu")


def test_less_the_mean_it_is_the_covariance(probe: LossProbe, gradients: Tensor) -> None:
    operator = EmpiricalFisherOperator(probe, sample_losses=sample_losses)
    mean = probe.gradient()
    covariance = operator @ torch.eye(51, dtype=torch.float64) - torch.outer(mean, mean)
    torch.testing.assert_close(covariance, gradients.T.cov(correction=0), rtol=1e-10, atol=1e-14)


def test_solvers_take_it(probe: LossProbe, gradients: Tensor) -> None:
    with EmpiricalFisherOperator(probe, sample_losses=sample_losses) as operator:
        values = eigsh(operator, 4).values
        start = operator.start_vector()
    expected = torch.linalg.svdvals(gradients)[:4] ** 2 / 23
    torch.testing.assert_close(values, expected, rtol=1e-5, atol=0)
    assert start is not None
    outside = start - gradients.T @ torch.linalg.lstsq(gradients.T, start[:, None]).solution[:, 0]
    assert float(outside.norm()) <= 1e-10 * float(start.norm())
    with pytest.raises(ValueError, match="closed"):
        operator @ torch.ones(51, dtype=torch.float64)


def test_arguments_are_checked(probe: LossProbe) -> None:
    with pytest.raises(ValueError, match=r"one number a sample.*reduction='none'.*got shape \(\)"):
        EmpiricalFisherOperator(probe, sample_losses=mean_loss)
    with pytest.raises(TypeError, match="`sample_losses` is a callable, got int"):
        EmpiricalFisherOperator(probe, sample_losses=3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="one real tensor"):
        EmpiricalFisherOperator(probe, sample_losses=lambda m, b: [1.0])  # type: ignore[arg-type, return-value]
