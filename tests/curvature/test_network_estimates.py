"""Random estimates of a network's Hessian against its dense form."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes.curvature import HessianOperator, diagonal, eigsh, frobenius_norm, spectral_density, trace
from lightning_regimes.probe import LossProbe

WIDTHS = (16, 32, 32, 6)


def dense_loss(weights: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of a tanh network, written out for a flat vector of weights and biases."""
    hidden, offset = inputs, 0
    for depth, (rows, columns) in enumerate(zip(WIDTHS[1:], WIDTHS[:-1], strict=True)):
        matrix = weights[offset : offset + rows * columns].view(rows, columns)
        bias = weights[offset + rows * columns : offset + rows * columns + rows]
        offset += rows * columns + rows
        hidden = hidden @ matrix.T + bias
        if depth < len(WIDTHS) - 2:
            hidden = torch.tanh(hidden)
    return (torch.logsumexp(hidden, dim=1) - hidden.gather(1, targets[:, None])[:, 0]).mean()


@dataclass
class Network:
    operator: HessianOperator
    hessian: Tensor
    eigenvalues: Tensor


@pytest.fixture(scope="module")
def network() -> Network:
    """A trained classifier of 1.8 thousand parameters, its operator in float32, its Hessian in float64."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 6))
    targets = torch.arange(256) % 6
    inputs = (2 * torch.randn(6, 16))[targets] + 2 * torch.randn(256, 16)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        functional.cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    weights = nn.utils.parameters_to_vector(module.parameters()).detach().double()
    hessian = torch.func.jacrev(torch.func.grad(dense_loss), chunk_size=256)(weights, inputs.double(), targets)

    def loss(module: Any, batch: Any) -> Tensor:
        return functional.cross_entropy(module(batch[0]), batch[1])

    operator = HessianOperator(LossProbe(module, [(inputs, targets)], loss=loss))
    return Network(operator, hessian, torch.linalg.eigvalsh(hessian))


def test_density(network: Network) -> None:
    spectrum = network.eigenvalues
    assert spectrum.min() < -0.01
    found = spectral_density(network.operator)
    assert found.num_matvecs == 800
    assert found.mass == pytest.approx(1, abs=1e-6)
    for power in (1, 2):
        moment = found.moment(power)
        assert abs(moment.value - float((spectrum**power).mean())) <= 3 * moment.standard_error
    expected = torch.distributions.Normal(spectrum, found.width).log_prob(found.grid[:, None]).exp().mean(1)
    distance = float(torch.trapezoid((found.density - expected).abs(), found.grid))
    assert distance <= 0.015
    assert distance <= 1.5 * float(torch.trapezoid(found.standard_error, found.grid))
    # The few large eigenvalues: as many as there are to within what the starts tell.
    outlying = found.nodes > float(spectrum[-6]) - 3 * found.width
    count = len(spectrum) * float((found.weights * outlying).sum(1).mean())
    error = len(spectrum) * float((found.weights * outlying).sum(1).std()) / math.sqrt(10)
    assert abs(count - int((spectrum > float(spectrum[-6]) - 3 * found.width).sum())) <= 3 * error
    assert float(found.nodes[:, -1].min()) == pytest.approx(float(spectrum[-1]), rel=1e-4)
    assert float(found.nodes[:, 0].max()) == pytest.approx(float(spectrum[0]), rel=1e-4)


@pytest.mark.parametrize(("method", "most"), [("hutchinson", 0.045), ("deflated", 0.03)])
def test_trace_at_fifteen_products(network: Network, method: Literal["hutchinson", "deflated"], most: float) -> None:
    # On the matrix, so that the trials are cheap; the operator is the same to rounding.
    matrix, truth = network.hessian.float(), float(network.hessian.trace())
    pairs = eigsh(matrix, 5) if method == "deflated" else None
    found = [trace(matrix, method=method, eigenpairs=pairs, seed=seed).value for seed in range(100)]
    error = math.sqrt(np.mean([(value - truth) ** 2 for value in found])) / truth
    # The variance of a quadratic form in random signs is twice the sum of the squares beside its diagonal.
    left = network.hessian.clone()
    if pairs is not None:
        vectors = torch.linalg.qr(pairs.vectors.double()).Q
        left -= vectors @ (vectors.T @ left)
        left -= (left @ vectors) @ vectors.T
    expected = math.sqrt(2 * float(left.square().sum() - left.diagonal().square().sum()) / 15) / truth
    assert error == pytest.approx(expected, rel=0.2)
    assert error <= most


def test_operator_and_matrix_agree(network: Network) -> None:
    for method in ("hutchinson", "hutch++", "xtrace"):
        by_operator = trace(network.operator, method=method)  # type: ignore[arg-type]
        by_matrix = trace(network.hessian.float(), method=method)  # type: ignore[arg-type]
        assert by_operator.value == pytest.approx(by_matrix.value, rel=1e-4)
    norm = frobenius_norm(network.operator)
    assert abs(norm.value - float(torch.linalg.matrix_norm(network.hessian))) <= 3 * norm.standard_error


def test_diagonal(network: Network) -> None:
    found = diagonal(network.operator, num_samples=100)
    truth = network.hessian.diagonal()
    deviations = (found.values.double() - truth) / found.standard_error.double().clamp(min=1e-7)
    # Entries are correlated through the vectors; on average over 1.8 thousand the claim holds.
    assert float(deviations.square().mean()) == pytest.approx(1, abs=0.25)
    assert float(deviations.abs().max()) <= 6
