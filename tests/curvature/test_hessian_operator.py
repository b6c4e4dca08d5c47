"""The Hessian operator against dense Hessians that are computed without it."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lightning_regimes.curvature import HessianOperator, eigsh
from lightning_regimes.probe import LossProbe

Loss = Callable[[Any, Any], Tensor]


def squared_error(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.mse_loss(module(batch[0]), batch[1])


def tanh_network(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def finite_difference_hessian(module: nn.Module, batch: Any, loss: Loss, mode: str = "eval") -> Tensor:
    """Central differences of the gradient in float64: no second derivative of autograd is involved."""
    module = copy.deepcopy(module).double().train(mode == "train")
    for parameter in module.parameters():
        if parameter.is_complex():  # which double() leaves alone
            parameter.data = parameter.data.to(torch.complex128)
    batch = tuple(item.double() if item.is_floating_point() else item for item in batch)
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]

    def real(tensor: Tensor) -> Tensor:
        return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).reshape(-1)

    def gradient() -> Tensor:
        gradients = torch.autograd.grad(loss(module, batch), parameters, allow_unused=True)
        pairs = zip(parameters, gradients, strict=True)
        return torch.cat([real(torch.zeros_like(p) if g is None else g) for p, g in pairs])

    columns = []
    for parameter in parameters:
        entries = real(parameter.data)
        for index in range(len(entries)):
            value = float(entries[index])
            entries[index] = value + 1e-5
            above = gradient()
            entries[index] = value - 1e-5
            columns.append((above - gradient()) / 2e-5)
            entries[index] = value
    return torch.stack(columns)


@dataclass
class Case:
    module: nn.Module
    batch: tuple[Tensor, ...]
    loss: Loss = squared_error
    mode: Literal["eval", "train"] = "eval"


def regression(inputs: int = 4, outputs: int = 3, count: int = 20) -> tuple[Tensor, Tensor]:
    return torch.randn(count, inputs), torch.randn(count, outputs)


def frozen() -> Case:
    module = tanh_network(4, 6, 5, 3)
    module[2].requires_grad_(False)
    return Case(module, regression())


def unused() -> Case:
    module = tanh_network(4, 6, 3)
    module.register_module("spare", nn.Linear(2, 2))
    return Case(module, regression(), lambda m, b: functional.mse_loss(m[2](m[1](m[0](b[0]))), b[1]))


def tied() -> Case:
    class Autoencoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Linear(4, 4)
            self.decoder = nn.Linear(4, 4)
            self.decoder.weight = self.encoder.weight

        def forward(self, inputs: Tensor) -> Tensor:
            return self.decoder(torch.tanh(self.encoder(inputs)))

    return Case(Autoencoder(), regression(4, 4))


def complex_weights() -> Case:
    class SpectralLayer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(0.5 * torch.randn(3, 4, dtype=torch.complex64))
            self.lift = nn.Linear(1, 3)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = torch.fft.rfft(self.lift(inputs.unsqueeze(-1)), dim=1)[:, :4]
            mixed = torch.einsum("bkc,ck->bkc", hidden, self.weight)
            return torch.tanh(torch.fft.irfft(mixed, n=inputs.shape[1], dim=1)).sum(-1)

    return Case(SpectralLayer(), (torch.randn(6, 8), torch.randn(6, 8)))


def physics_informed() -> Case:
    def residual(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        points = batch[0].clone().requires_grad_()
        values = module(points)
        (slope,) = torch.autograd.grad(values.sum(), points, create_graph=True)
        (second,) = torch.autograd.grad(slope.sum(), points, create_graph=True)
        return (second + torch.sin(points)).square().mean()  # the last bias drops out

    return Case(tanh_network(1, 6, 5, 1), (torch.linspace(-2, 2, 15)[:, None],), residual)


def multihead_attention() -> Case:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    return Case(
        attention,
        (torch.randn(3, 5, 8), torch.randn(3, 5, 8)),
        lambda m, b: functional.mse_loss(m(b[0], b[0], b[0], need_weights=False)[0], b[1]),
    )


def dot_product_attention() -> Case:
    def attend(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        query, key, value = module(batch[0]).view(3, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True).square().mean()

    return Case(nn.Linear(6, 24), (torch.randn(3, 5, 6),), attend)


def transformer_layer() -> Case:
    layer = nn.TransformerEncoderLayer(6, 2, dim_feedforward=8, activation="gelu", batch_first=True)
    return Case(layer, (torch.randn(3, 4, 6), torch.randn(3, 4, 6)))


def normalization(mode: Literal["eval", "train"]) -> Case:
    module = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
    batch = regression()
    module.train()(2 + 3 * batch[0])
    return Case(module, batch, mode=mode)


def convolution() -> Case:
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(48, 2))
    batch = torch.randn(5, 1, 6, 6), torch.tensor([0, 1, 1, 0, 1])
    return Case(module, batch, lambda m, b: functional.cross_entropy(m(b[0]), b[1]))


def recurrence() -> Case:
    return Case(nn.GRU(3, 4), (torch.randn(6, 2, 3),), lambda m, b: m(b[0])[0].square().mean())


def checkpointed() -> Case:
    return Case(
        tanh_network(4, 6, 5, 3),
        regression(),
        lambda m, b: functional.mse_loss(checkpoint(m, b[0], use_reentrant=False), b[1]),
    )


CASES = {
    "frozen": frozen,
    "unused": unused,
    "tied": tied,
    "complex": complex_weights,
    "physics-informed": physics_informed,
    "multi-head attention": multihead_attention,
    "dot-product attention": dot_product_attention,
    "transformer layer": transformer_layer,
    "batch norm, eval": lambda: normalization("eval"),
    "batch norm, train": lambda: normalization("train"),
    "convolution": convolution,
    "recurrence": recurrence,
    "checkpoint": checkpointed,
}


@pytest.mark.parametrize("name", CASES)
def test_equals_finite_differences_of_the_gradient(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]()
    expected = finite_difference_hessian(case.module, case.batch, case.loss, case.mode)
    probe = LossProbe(case.module, [case.batch], loss=case.loss, mode=case.mode)
    operator = HessianOperator(probe)
    assert operator.shape == expected.shape
    product = operator @ torch.eye(operator.shape[0])
    scale = float(expected.abs().max())
    assert scale > 1e-3
    torch.testing.assert_close(product.double(), expected, rtol=0, atol=1e-4 * scale)
    assert operator.num_matvecs == operator.shape[0]
    # The ends of the spectrum, whatever the sign of the curvature.
    eigenvalues = torch.linalg.eigvalsh(expected)
    both = eigsh(operator, 2, which="BE")
    torch.testing.assert_close(both.values.double(), eigenvalues[[-1, 0]], rtol=0, atol=1e-4 * scale)
    by_magnitude = eigsh(operator, 1, which="LM")
    assert float(by_magnitude.values.abs()) == pytest.approx(float(eigenvalues.abs().max()), rel=1e-4)


def test_compiled_module() -> None:
    torch.manual_seed(0)
    module, batch = tanh_network(4, 6, 3), regression()
    expected = finite_difference_hessian(module, batch, squared_error)
    compiled: Any = torch.compile(module, backend="eager")
    compiled(batch[0])
    operator = HessianOperator(LossProbe(compiled, [batch], loss=squared_error))
    torch.testing.assert_close((operator @ torch.eye(51)).double(), expected, rtol=0, atol=1e-4)


def relu_network_loss(weights: Tensor, inputs: Tensor, targets: Tensor, widths: tuple[int, ...]) -> Tensor:
    """Cross entropy of a ReLU network, written out for a flat vector of weights and biases."""
    hidden, offset = inputs, 0
    for depth, (rows, columns) in enumerate(zip(widths[1:], widths[:-1], strict=True)):
        matrix = weights[offset : offset + rows * columns].view(rows, columns)
        bias = weights[offset + rows * columns : offset + rows * columns + rows]
        offset += rows * columns + rows
        hidden = hidden @ matrix.T + bias
        if depth < len(widths) - 2:
            hidden = torch.relu(hidden)
    return (torch.logsumexp(hidden, dim=1) - hidden.gather(1, targets[:, None])[:, 0]).mean()


WIDTHS = (16, 32, 32, 6)


@pytest.fixture(scope="module")
def classifier() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A briefly trained network of 1.8 thousand parameters, its data, and its dense Hessian in float64."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 6))
    centers = 2 * torch.randn(6, 16)
    targets = torch.arange(256) % 6
    inputs = centers[targets] + torch.randn(256, 16)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        functional.cross_entropy(module(inputs), targets).backward()
        optimizer.step()
    weights = nn.utils.parameters_to_vector(module.parameters()).detach().double()
    hessian = torch.func.hessian(relu_network_loss)(weights, inputs.double(), targets, WIDTHS)
    return module, inputs, targets, hessian


def cross_entropy(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(module(batch[0]), batch[1])


def test_largest_eigenpairs_over_many_seeds(classifier: tuple[nn.Module, Tensor, Tensor, Tensor]) -> None:
    module, inputs, targets, hessian = classifier
    expected = torch.linalg.eigvalsh(hessian).flip(0)[:5]
    operator = HessianOperator(LossProbe(module, [(inputs, targets)], loss=cross_entropy))
    for seed in range(20):
        pairs = eigsh(operator, 5, seed=seed)
        torch.testing.assert_close(pairs.values.double(), expected, rtol=1e-4, atol=0)
        residuals = torch.linalg.vector_norm(
            hessian @ pairs.vectors.double() - pairs.vectors.double() * pairs.values.double(), dim=0
        )
        assert bool((residuals <= 1.01e-3 * expected).all())
        torch.testing.assert_close(pairs.vectors.T @ pairs.vectors, torch.eye(5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("max_cache_bytes", [None, 0])
def test_unequal_batches_equal_their_union(
    classifier: tuple[nn.Module, Tensor, Tensor, Tensor], max_cache_bytes: int | None
) -> None:
    module, inputs, targets, hessian = classifier
    batches = list(zip(inputs.split(250), targets.split(250), strict=True))
    assert [len(batch[0]) for batch in batches] == [250, 6]
    operator = HessianOperator(LossProbe(module, batches, loss=cross_entropy), max_cache_bytes=max_cache_bytes)
    assert operator.num_cached_batches == (2 if max_cache_bytes is None else 0)
    values = eigsh(operator, 5).values
    torch.testing.assert_close(values.double(), torch.linalg.eigvalsh(hessian).flip(0)[:5], rtol=1e-5, atol=0)


def test_float64(classifier: tuple[nn.Module, Tensor, Tensor, Tensor]) -> None:
    module, inputs, targets, hessian = classifier
    operator = HessianOperator(LossProbe(module, [(inputs, targets)], loss=cross_entropy, dtype=torch.float64))
    vector = torch.randn(operator.shape[0], dtype=torch.float64)
    torch.testing.assert_close(operator @ vector, hessian @ vector, rtol=1e-10, atol=1e-10)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), scale=st.floats(-10, 10))
def test_symmetric_and_linear(seed: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(0)
    module = tanh_network(4, 6, 3)
    operator = HessianOperator(LossProbe(module, [regression()], loss=squared_error))
    left, right = torch.randn(51, 2, generator=generator).unbind(1)
    norms = float(left.norm() * right.norm())
    assert float(left @ (operator @ right)) == pytest.approx(float(right @ (operator @ left)), abs=1e-5 * norms)
    combined = operator @ (left + scale * right)
    expected = operator @ left + scale * (operator @ right)
    torch.testing.assert_close(combined, expected, rtol=1e-4, atol=1e-4)
    matrix = torch.stack([left, right], dim=1)
    torch.testing.assert_close(operator @ matrix, torch.stack([operator @ left, operator @ right], dim=1))


def test_start_vector_is_the_gradient(classifier: tuple[nn.Module, Tensor, Tensor, Tensor]) -> None:
    module, inputs, targets, _ = classifier
    probe = LossProbe(module, [(inputs[:100], targets[:100]), (inputs[100:], targets[100:])], loss=cross_entropy)
    start = HessianOperator(probe).start_vector()
    assert start is not None
    torch.testing.assert_close(start, probe.gradient())
    assert HessianOperator(probe, max_cache_bytes=0).start_vector() is None


def test_parameters_may_be_selected() -> None:
    torch.manual_seed(0)
    module, batch = tanh_network(4, 6, 3), regression()
    whole = HessianOperator(LossProbe(module, [batch], loss=squared_error)) @ torch.eye(51)
    block = HessianOperator(LossProbe(module, [batch], loss=squared_error, parameters="2.*")) @ torch.eye(21)
    torch.testing.assert_close(block, whole[30:, 30:])


def test_certified_spectrum_of_a_deep_linear_network() -> None:
    # At the balanced minimum W3 W2 W1 = T of a linear network with whitened input, T of rank r and all its singular
    # values m^3, the Hessian has 3 m^4 with multiplicity r^2 and m^4 with multiplicity (d_0 + d_3 - 2 r) r.
    generator = torch.Generator().manual_seed(0)
    widths, rank, size = (16, 32, 32, 10), 5, 1.3
    frames = [torch.linalg.qr(torch.randn(width, rank, generator=generator)).Q for width in widths]
    module = nn.Sequential(*(nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)))
    with torch.no_grad():
        for layer, right, left in zip(module, frames[:-1], frames[1:], strict=True):
            layer.weight.copy_(size * left @ right.T)  # type: ignore[operator]
    target = size**3 * frames[-1] @ frames[0].T
    probe = LossProbe(module, [torch.eye(16)], loss=lambda m, batch: 0.5 * (m(batch) - target.T).square().sum())
    pairs = eigsh(HessianOperator(probe), 30, certify=True)
    expected = size**4 * torch.cat([torch.full((25,), 3.0), torch.ones(5)])
    assert pairs.converged
    torch.testing.assert_close(pairs.values, expected, rtol=1e-3, atol=0)
