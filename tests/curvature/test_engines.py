"""The engines of the Hessian operator against the dense Hessian in float64, and what each of them refuses."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lightning_regimes.curvature import HessianOperator, eigsh
from lightning_regimes.probe import LossProbe, ProbeError

ENGINES = ("reverse", "forward_over_reverse", "finite_difference")
# Relative to the largest entry. The last is what rounding leaves of a difference.
TOLERANCES = {
    ("reverse", torch.float32): 1e-5,
    ("forward_over_reverse", torch.float32): 1e-5,
    ("finite_difference", torch.float32): 1e-3,
    ("reverse", torch.float64): 1e-13,
    ("forward_over_reverse", torch.float64): 1e-13,
    ("finite_difference", torch.float64): 1e-9,
}
Case = tuple[nn.Module, tuple[Tensor, ...], Callable[[Any, Any], Tensor]]


def squared_error(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    return functional.mse_loss(module(batch[0]), batch[1])


def network(activation: type[nn.Module], *widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def smooth() -> Case:
    return network(nn.Tanh, 4, 6, 3), (torch.randn(20, 4), torch.randn(20, 3)), squared_error


def convolution() -> Case:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.GELU(), nn.Flatten(), nn.Linear(32, 2))
    batch = torch.randn(6, 1, 6, 6), torch.tensor([0, 1, 1, 0, 1, 0])
    return module, batch, lambda m, b: functional.cross_entropy(m(b[0]), b[1])


def attention() -> Case:
    module = nn.MultiheadAttention(4, 2, batch_first=True)
    return (
        module,
        (torch.randn(3, 5, 4), torch.randn(3, 5, 4)),
        lambda m, b: functional.mse_loss(m(b[0], b[0], b[0], need_weights=False)[0], b[1]),
    )


def physics_informed() -> Case:
    def residual(module: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        points = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(module(points).sum(), points, create_graph=True)
        (second,) = torch.autograd.grad(slope.sum(), points, create_graph=True)
        return (second + torch.sin(points)).square().mean()

    return network(nn.Tanh, 1, 6, 5, 1), (torch.linspace(-2, 2, 15)[:, None],), residual


def complex_weights() -> Case:
    class SpectralLayer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.randn(3))  # an odd number of reals before the complex ones
            self.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.complex64))

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = torch.fft.rfft(self.scale * inputs.unsqueeze(-1), dim=1)[:, :4]
            mixed = torch.einsum("bkc,ck->bkc", hidden, self.weight)
            return torch.tanh(torch.fft.irfft(mixed, n=inputs.shape[1], dim=1)).sum(-1)

    return SpectralLayer(), (torch.randn(6, 8), torch.randn(6, 8)), squared_error


CASES = {
    "smooth": smooth,
    "convolution": convolution,
    "attention": attention,
    "physics-informed": physics_informed,
    "complex": complex_weights,
}


def dense_hessian(probe: LossProbe) -> Tensor:
    """The rows of the Hessian, each a derivative of one entry of the gradient of the whole loss."""
    with probe.isolated():
        leaves = list(probe.parameters.values())
        loss = sum(weight * probe.batch_loss(index) for index, weight in enumerate(probe.weights))
        assert isinstance(loss, Tensor)
        first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
        rows = [
            probe.flatten(torch.autograd.grad(entry, leaves, retain_graph=True, allow_unused=True))
            for piece in first
            for entry in piece.reshape(-1)
        ]
        return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("name", "mode"), [*((name, "eval") for name in CASES), ("convolution", "train")])
def test_engines_equal_the_dense_hessian(
    name: str, mode: Literal["eval", "train"], engine: Any, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    module, batch, loss = CASES[name]()
    batches = [tuple(item[:4] for item in batch), tuple(item[4:] for item in batch)] if len(batch[0]) > 5 else [batch]
    expected = dense_hessian(LossProbe(module, batches, loss=loss, mode=mode, dtype=torch.float64))
    operator = HessianOperator(LossProbe(module, batches, loss=loss, mode=mode, dtype=dtype), engine=engine)
    columns = torch.randperm(len(expected))[:12]
    product = operator @ torch.eye(len(expected), dtype=dtype)[:, columns]
    error = (product.double() - expected[:, columns]).abs().max() / expected.abs().max()
    assert float(error) <= TOLERANCES[engine, dtype]
    assert operator.num_matvecs == 12


@pytest.mark.parametrize("engine", ENGINES)
def test_eigenvalues(engine: Any) -> None:
    torch.manual_seed(0)
    module, batch, loss = smooth()
    probe = LossProbe(module, [batch], loss=loss, dtype=torch.float64)
    expected = torch.linalg.eigvalsh(dense_hessian(probe))
    pairs = eigsh(HessianOperator(probe, engine=engine), 3, tol=1e-6)
    torch.testing.assert_close(pairs.values, expected.flip(0)[:3], rtol=1e-8, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_point_module_and_start_vector(engine: Any) -> None:
    torch.manual_seed(0)
    module, batch, loss = convolution()
    module.train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    probe = LossProbe(module, [batch], loss=loss, mode="train")
    leaves, point, value = dict(probe.parameters), probe.point(), probe.loss()
    with HessianOperator(probe, engine=engine) as operator:
        start = operator.start_vector()
        assert start is not None
        torch.testing.assert_close(start, probe.gradient())
        operator @ torch.ones(operator.shape[0])
        assert operator.num_cached_batches == (engine == "reverse")
    # To the last bit, and the very same leaves.
    assert torch.equal(probe.point(), point)
    assert torch.equal(probe.loss(), value)
    assert all(probe.parameters[name] is leaf for name, leaf in leaves.items())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    with pytest.raises(ValueError, match="closed"):
        operator @ torch.ones(operator.shape[0])


@pytest.mark.parametrize(("dtype", "width", "count"), [(torch.float32, 64, 64), (torch.float64, 256, 4096)])
def test_finite_differences_refuse_kinks(dtype: torch.dtype, width: int, count: int) -> None:
    torch.manual_seed(0)
    module = network(nn.ReLU, 4, width, 3)
    probe = LossProbe(module, [(torch.randn(count, 4), torch.randn(count, 3))], loss=squared_error, dtype=dtype)
    vector = torch.randn(probe.num_parameters, dtype=dtype)
    with pytest.raises(ProbeError, match=r"two step sizes disagree by .* kinks, as from ReLU"):
        HessianOperator(probe, engine="finite_difference") @ vector
    # The exact engines have the derivative that there is almost everywhere.
    reverse, forward = (HessianOperator(probe, engine=engine) @ vector for engine in ENGINES[:2])
    torch.testing.assert_close(reverse, forward)


class Adjoint(torch.autograd.Function):
    """A linear map whose gradient is computed out of autograd's sight, as adjoint ODE solvers do."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return inputs @ weight.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        inputs, weight = ctx.saved_tensors
        with torch.no_grad():
            return gradient @ weight, gradient.T @ inputs


INPUTS = torch.linspace(-1, 1, 12).view(4, 3)


def product(loss: Callable[[Any, Any], Tensor], engine: Any) -> Tensor:
    torch.manual_seed(0)
    operator = HessianOperator(LossProbe(nn.Linear(3, 2), [INPUTS], loss=loss, dtype=torch.float64), engine=engine)
    return operator @ torch.linspace(-1, 1, 8, dtype=torch.float64)


def through_custom_function(module: Any, inputs: Tensor) -> Tensor:
    return Adjoint.apply(inputs, module.weight).tanh().square().mean()


def test_custom_function_without_second_derivative() -> None:
    with pytest.raises(ProbeError, match="custom autograd function Adjoint computes its gradient without a graph"):
        product(through_custom_function, "reverse")
    with pytest.raises(ProbeError, match=r'no forward derivative \(`jvp`\).*use `engine="reverse"`'):
        product(through_custom_function, "forward_over_reverse")
    # First derivatives are all that finite differences take.
    expected = product(lambda m, x: (x @ m.weight.T).tanh().square().mean(), "reverse")
    torch.testing.assert_close(product(through_custom_function, "finite_difference"), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_reentrant_checkpoint(engine: Any) -> None:
    with pytest.raises(ProbeError, match="use_reentrant=False"):
        product(lambda m, x: checkpoint(m, x.clone().requires_grad_(), use_reentrant=True).square().mean(), engine)


def test_operations_without_forward_derivative_are_named() -> None:
    def activated(module: Any, inputs: Tensor) -> Tensor:
        return functional.silu(module(inputs)).square().mean()

    with pytest.raises(ProbeError, match=r'forward derivative of .*silu_backward.*use `engine="reverse"`'):
        product(activated, "forward_over_reverse")
    torch.testing.assert_close(product(activated, "finite_difference"), product(activated, "reverse"))

    def forward_residual(module: Any, inputs: Tensor) -> Tensor:
        return torch.func.jvp(lambda x: module(x).sin(), (inputs,), (torch.ones_like(inputs),))[1].square().mean()

    with pytest.raises(ProbeError, match="takes forward derivatives itself"):
        product(forward_residual, "forward_over_reverse")


@pytest.mark.parametrize("engine", ENGINES)
def test_losses_without_curvature_are_refused(engine: Any) -> None:
    with pytest.raises(ProbeError, match="loss of probe batch 0 is nan"):
        product(lambda m, x: m(x).mean() * float("nan"), engine)
    other = torch.ones(3, requires_grad=True)
    with pytest.raises(ProbeError, match="does not depend on any of the probed parameters"):
        product(lambda m, x: (x * other).square().mean(), engine)


def test_error_of_the_loss_itself_is_passed_on() -> None:
    seen: list[None] = []

    def fails_the_second_time(module: Any, inputs: Tensor) -> Tensor:
        seen.append(None)
        if len(seen) > 1:
            raise RuntimeError("no such file")
        return module(inputs).square().mean()

    with pytest.raises(RuntimeError, match=r"^no such file$"):
        product(fails_the_second_time, "forward_over_reverse")


def test_odeint() -> None:
    torchdiffeq = pytest.importorskip("torchdiffeq")

    def trajectory(module: Any, inputs: Tensor) -> Tensor:
        def field(time: Tensor, state: Tensor) -> Tensor:
            return functional.pad(torch.tanh(module(state)), (0, 1))

        return torchdiffeq.odeint(field, inputs, torch.linspace(0, 1, 3, dtype=inputs.dtype))[-1].square().mean()

    expected = product(trajectory, "finite_difference")
    torch.testing.assert_close(product(trajectory, "reverse"), expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ProbeError, match='use `engine="reverse"`'):
        product(trajectory, "forward_over_reverse")
