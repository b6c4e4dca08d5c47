"""The Gauss-Newton operator against dense Jacobians."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from lightning_regimes.curvature import GaussNewtonOperator, HessianOperator, eigsh, trace
from lightning_regimes.probe import LossProbe, ProbeError


def forward(module: nn.Module, batch: Any) -> Tensor:
    return module(batch[0])  # type: ignore[no-any-return]


def squared_error(outputs: Tensor, batch: Any) -> Tensor:
    return functional.mse_loss(outputs, batch[1])


def cross_entropy(outputs: Tensor, batch: Any) -> Tensor:
    return functional.cross_entropy(outputs, batch[1])


def fourth_power(outputs: Tensor, batch: Any) -> Tensor:
    return (outputs - batch[1]).pow(4).sum(-1).mean()


Loss = Callable[[Tensor, Any], Tensor]
Outputs = Callable[[Any, Any], Tensor]


def operator_of(
    module: nn.Module,
    batches: list[Any],
    loss: Loss,
    outputs: Outputs = forward,
    mode: Literal["eval", "train"] = "eval",
    dtype: torch.dtype | None = torch.float64,
) -> GaussNewtonOperator:
    probe = LossProbe(module, batches, loss=lambda m, b: loss(outputs(m, b), b), mode=mode, dtype=dtype)
    return GaussNewtonOperator(probe, outputs=outputs, loss_of_outputs=loss)


def dense(
    module: nn.Module, batch: Any, loss: Loss, outputs: Outputs = forward, mode: Literal["eval", "train"] = "eval"
) -> Tensor:
    """Jᵀ ∇²ℓ J from the Jacobian, row by row, and the Hessian of the loss in the outputs, in float64."""
    module = copy.deepcopy(module).double().train(mode == "train")
    batch = tuple(item.double() if item.is_floating_point() else item for item in batch)
    values = {name: parameter.detach() for name, parameter in module.named_parameters()}

    def flat_outputs(flat: Tensor) -> Tensor:
        pieces = flat.split([value.numel() for value in values.values()])
        replaced = {name: piece.view(value.shape) for (name, value), piece in zip(values.items(), pieces, strict=True)}
        return torch.func.functional_call(
            _Outputs(module, outputs), {f"module.{n}": v for n, v in replaced.items()}, (batch,)
        )

    point = torch.cat([value.reshape(-1) for value in values.values()])
    predicted = flat_outputs(point).detach()
    jacobian = torch.func.jacrev(flat_outputs)(point).reshape(predicted.numel(), -1)
    curvature = torch.func.jacrev(torch.func.grad(lambda z: loss(z, batch)))(predicted).reshape(predicted.numel(), -1)
    return jacobian.T @ curvature @ jacobian


class _Outputs(nn.Module):
    def __init__(self, module: nn.Module, outputs: Outputs) -> None:
        super().__init__()
        self.module = module
        self.outputs = outputs

    def forward(self, batch: Any) -> Tensor:
        return self.outputs(self.module, batch)


@dataclass
class Case:
    module: nn.Module
    batch: tuple[Tensor, ...]
    loss: Loss = squared_error
    outputs: Outputs = forward
    mode: Literal["eval", "train"] = "eval"


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.decoder = nn.Linear(4, 4)
        self.decoder.weight = self.encoder.weight

    def forward(self, inputs: Tensor) -> Tensor:
        return self.decoder(torch.tanh(self.encoder(inputs)))


def residual(module: Any, batch: Any) -> Tensor:
    """The residual of a differential equation, whose last bias drops out."""
    points = batch[0].detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(module(points).sum(), points, create_graph=True)
    return slope


def slope_of_tanh_network(module: Any, batch: Any) -> Tensor:
    """The same residual without derivatives of autograd."""
    hidden = torch.tanh(module[0](batch[0]))
    return ((1 - hidden**2) * module[0].weight[:, 0] * module[2].weight[0]).sum(1, keepdim=True)


def network(*, outputs: int = 3, norm: bool = False, track: bool = True) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(4, 6),
        nn.BatchNorm1d(6, track_running_stats=track) if norm else nn.Identity(),
        nn.Tanh(),
        nn.Linear(6, outputs),
    )


def regression(count: int = 20, outputs: int = 3) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 4), torch.randn(count, outputs)


CASES: dict[str, Callable[[], Case]] = {
    "squared error": lambda: Case(network(), regression()),
    "cross entropy": lambda: Case(network(), (torch.randn(20, 4), torch.arange(20) % 3), cross_entropy),
    "fourth power": lambda: Case(network(), regression(), fourth_power),
    "tied": lambda: Case(Autoencoder(), regression(outputs=4)),
    "batch norm": lambda: Case(network(norm=True, track=False), regression(), mode="train"),
    "convolution": lambda: Case(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.GELU(), nn.Flatten(), nn.Linear(48, 2)),
        (torch.randn(5, 1, 6, 6), torch.tensor([0, 1, 1, 0, 1])),
        cross_entropy,
    ),
    "part of the outputs": lambda: Case(network(), regression(outputs=2), outputs=lambda m, b: m(b[0])[:, 1:]),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_dense_jacobians(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]()
    operator = operator_of(case.module, [case.batch], case.loss, case.outputs, case.mode)
    product = operator @ torch.eye(operator.shape[0], dtype=torch.float64)
    expected = dense(case.module, case.batch, case.loss, case.outputs, case.mode)
    torch.testing.assert_close(product, expected, rtol=1e-10, atol=1e-12)
    assert float(expected.abs().max()) > 1e-3
    assert operator.num_matvecs == operator.shape[0]


def test_residual_of_a_differential_equation() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 1))
    batch = (torch.linspace(-2, 2, 15)[:, None], torch.randn(15, 1))
    operator = operator_of(module, [batch], squared_error, residual)
    expected = dense(module, batch, squared_error, slope_of_tanh_network)
    product = operator @ torch.eye(operator.shape[0], dtype=torch.float64)
    torch.testing.assert_close(product, expected, rtol=1e-10, atol=1e-12)


def test_unequal_batches_equal_their_union() -> None:
    torch.manual_seed(0)
    module, (inputs, targets) = network(), regression(23)
    parts = list(zip(inputs.split(20), targets.split(20), strict=True))
    union = dense(module, (inputs, targets), squared_error)
    product = operator_of(module, parts, squared_error) @ torch.eye(union.shape[0], dtype=torch.float64)
    torch.testing.assert_close(product, union, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["squared error", "cross entropy"])
def test_equals_the_hessian_for_a_linear_model(name: str) -> None:
    torch.manual_seed(0)
    case = CASES[name]()
    operator = operator_of(nn.Linear(4, 3), [case.batch], case.loss)
    hessian = HessianOperator(operator._probe)
    identity = torch.eye(15, dtype=torch.float64)
    torch.testing.assert_close(operator @ identity, hessian @ identity, rtol=1e-10, atol=1e-12)


def test_equals_the_hessian_where_the_data_are_fitted() -> None:
    torch.manual_seed(0)
    module, inputs = network().double(), torch.randn(20, 4, dtype=torch.float64)
    identity = torch.eye(51, dtype=torch.float64)
    fitted = operator_of(module, [(inputs, module(inputs).detach())], squared_error)
    torch.testing.assert_close(fitted @ identity, HessianOperator(fitted._probe) @ identity, rtol=1e-10, atol=1e-12)
    missed = operator_of(module, [(inputs, module(inputs).detach() + 1)], squared_error)
    torch.testing.assert_close(missed @ identity, fitted @ identity, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(missed @ identity, HessianOperator(missed._probe) @ identity, rtol=1e-2, atol=1e-2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.floats(0.1, 5), loss=st.sampled_from([squared_error, fourth_power]))
def test_symmetric_and_positive_semidefinite_for_a_convex_loss(seed: int, size: float, loss: Loss) -> None:
    torch.manual_seed(seed)
    module, batch = network(), regression()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(size)
    matrix = operator_of(module, [batch], loss) @ torch.eye(51, dtype=torch.float64)
    scale = float(matrix.abs().max())
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=1e-12 * scale)
    assert float(torch.linalg.eigvalsh(matrix).min()) >= -1e-11 * scale


def test_solvers_take_it() -> None:
    torch.manual_seed(0)
    case = CASES["cross entropy"]()
    operator = operator_of(case.module, [case.batch], case.loss, dtype=torch.float32)
    pairs = eigsh(operator, 3)
    estimate = trace(operator, method="xtrace", num_samples=102)
    start = operator.start_vector()
    gradient = operator._probe.gradient()
    expected = dense(case.module, case.batch, case.loss)
    torch.testing.assert_close(pairs.values.double(), torch.linalg.eigvalsh(expected).flip(0)[:3], rtol=1e-4, atol=0)
    assert estimate.value == pytest.approx(float(expected.trace()), rel=1e-4)
    assert start is not None
    torch.testing.assert_close(start, gradient)


def test_probe_keeps_its_own_loss_and_the_module_its_state() -> None:
    torch.manual_seed(0)
    module, batch = network(norm=True).train(), regression()
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    probe = LossProbe(module, [batch], loss=lambda m, b: m(b[0]).square().mean(), mode="train")
    before, random_state = probe.loss(), torch.get_rng_state()
    operator = GaussNewtonOperator(probe, outputs=forward, loss_of_outputs=squared_error)
    operator @ torch.ones(operator.shape[0])
    assert torch.equal(probe.loss(), before)
    with pytest.raises(ZeroDivisionError):
        GaussNewtonOperator(probe, outputs=forward, loss_of_outputs=lambda z, b: 1 / 0)  # type: ignore[arg-type, return-value]
    assert torch.equal(probe.loss(), before)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_graphs_go_with_the_operator_and_on_close() -> None:
    gc.disable()  # a reference cycle would survive
    try:
        operator = operator_of(network(), [regression()], squared_error)
        outputs = weakref.ref(operator._linearizations[0].outputs)
        del operator
        assert outputs() is None
        with operator_of(network(), [regression()], squared_error) as operator:
            outputs = weakref.ref(operator._linearizations[0].outputs)
        assert outputs() is None
        assert operator.start_vector() is None
    finally:
        gc.enable()
    with pytest.raises(ValueError, match="closed"):
        operator @ torch.ones(51, dtype=torch.float64)


def test_loss_that_is_linear_in_the_outputs_has_none() -> None:
    operator = operator_of(network(), [regression()], lambda z, b: z.mean())
    assert bool((operator @ torch.ones(51, dtype=torch.float64) == 0).all())


class Adjoint(torch.autograd.Function):
    """A linear map whose gradient is computed out of autograd's sight."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        return inputs @ weight.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        inputs, weight = ctx.saved_tensors
        with torch.no_grad():
            return gradient @ weight, gradient.T @ inputs


def test_failures_say_why() -> None:
    batches = [regression()]
    with pytest.raises(ProbeError, match="custom autograd function Adjoint"):
        operator_of(network(), batches, squared_error, lambda m, b: Adjoint.apply(m[:3](b[0]), m[3].weight), dtype=None)
    with pytest.raises(ProbeError, match="outputs do not depend on any of the probed parameters"):
        operator_of(network(), batches, squared_error, lambda m, b: b[1])
    with pytest.raises(ProbeError, match="loss does not depend on the outputs"):
        operator_of(network(), batches, lambda z, b: b[1].mean())
    with pytest.raises(ProbeError, match="loss of probe batch 0 is nan"):
        operator_of(network(), batches, lambda z, b: z.mean() * float("nan"))
    with pytest.raises(ProbeError, match="must be one real number"):
        operator_of(network(), batches, lambda z, b: z)
    with pytest.raises(ProbeError, match="Gauss-Newton matrix with a vector is not finite"):
        operator_of(network(), batches, lambda z, b: ((z - z.detach()).abs() ** 1.5).sum()) @ torch.ones(51).double()


def test_arguments_are_checked() -> None:
    batches = [regression()]
    with pytest.raises(TypeError, match=r"one real tensor .* got tuple"):
        operator_of(network(), batches, squared_error, lambda m, b: (m(b[0]),))  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"one real tensor .* got torch\.complex128"):
        operator_of(network(), batches, squared_error, lambda m, b: torch.fft.fft(m(b[0])))
    with pytest.raises(TypeError, match="`loss_of_outputs` returns a scalar tensor, got float"):
        operator_of(network(), batches, lambda z, b: 1.0)  # type: ignore[arg-type, return-value]
    probe = LossProbe(network(), batches, loss=lambda m, b: m(b[0]).mean())
    with pytest.raises(TypeError, match="`outputs` is a callable, got str"):
        GaussNewtonOperator(probe, outputs="logits", loss_of_outputs=squared_error)  # type: ignore[arg-type]
    operator = GaussNewtonOperator(probe, outputs=forward, loss_of_outputs=squared_error)
    with pytest.raises(TypeError, match=r"torch\.float32, got torch.float64"):
        operator @ torch.ones(51, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"\(51,\) or \(51, m\), got \(7,\)"):
        operator @ torch.ones(7)
    with pytest.raises(ValueError, match="on cpu, got one on meta"):
        operator @ torch.ones(51, device="meta")
