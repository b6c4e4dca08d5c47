"""What cannot be computed is said, never returned as zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from lightning_regimes.curvature import HessianOperator, eigsh
from lightning_regimes.probe import LossProbe, ProbeError

INPUTS = torch.linspace(-1, 1, 12).view(4, 3)


def hessian(loss: Callable[[Any, Any], Tensor], module: nn.Module | None = None) -> HessianOperator:
    torch.manual_seed(0)
    return HessianOperator(LossProbe(module or nn.Linear(3, 2), [INPUTS], loss=loss))


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


class OnceDifferentiable(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs.sin()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].cos()


class Sine(torch.autograd.Function):
    """Differentiable as often as one likes."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor) -> Tensor:
        ctx.save_for_backward(inputs)
        return inputs.sin()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].cos()


def test_gradient_without_graph_through_a_custom_function() -> None:
    with pytest.raises(
        ProbeError, match=r"custom autograd function Adjoint computes its gradient without a graph.*odeint"
    ):
        hessian(lambda m, x: Adjoint.apply(x, m.weight).square().mean())


def test_gradient_partly_without_graph() -> None:
    # The last layer has second derivatives, the one behind the custom function seems to have none.
    module = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 1)])
    with pytest.raises(ProbeError, match="Adjoint"):
        hessian(lambda m, x: m[1](Adjoint.apply(x, m[0].weight)).square().mean(), module)


def test_gradient_without_graph_behind_other_layers() -> None:
    # Every parameter has a second derivative, all of them wrong: the encoder's comes through the custom function.
    module = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 2)])
    with pytest.raises(ProbeError, match="Adjoint"):
        hessian(lambda m, x: Adjoint.apply(m[0](x).tanh(), m[1].weight).square().mean(), module)


def test_custom_function_with_second_derivatives() -> None:
    custom = hessian(lambda m, x: Sine.apply(m(x)).mean()) @ torch.eye(8)
    native = hessian(lambda m, x: m(x).sin().mean()) @ torch.eye(8)
    torch.testing.assert_close(custom, native)


def test_once_differentiable_function() -> None:
    with pytest.raises(ProbeError, match="OnceDifferentiable computes its gradient without a graph"):
        hessian(lambda m, x: OnceDifferentiable.apply(m(x)).square().mean())


def test_reentrant_checkpoint() -> None:
    with pytest.raises(ProbeError, match="use_reentrant=False"):
        hessian(lambda m, x: checkpoint(m, x.clone().requires_grad_(), use_reentrant=True).square().mean())


def test_reentrant_checkpoint_of_a_part() -> None:
    module = nn.ModuleList([nn.Linear(3, 4), nn.Linear(4, 2)])
    with pytest.raises(ProbeError, match="use_reentrant=False"):
        hessian(lambda m, x: checkpoint(m[1], m[0](x), use_reentrant=True).square().mean(), module)


def test_operation_without_second_derivative_is_named() -> None:
    targets = torch.tensor([[0, -1], [1, -1], [0, 1], [1, 0]])
    operator = hessian(lambda m, x: nn.functional.multilabel_margin_loss(m(x).square(), targets))
    with pytest.raises(ProbeError, match="derivative of aten::multilabel_margin_loss_backward"):
        operator @ torch.ones(8)


def test_bag_of_embeddings() -> None:
    module = nn.EmbeddingBag(5, 3)
    with pytest.raises(ProbeError, match="derivative of _embedding_bag_backward"):
        hessian(lambda m, x: m(torch.tensor([[0, 1], [2, 4]])).square().mean(), module) @ torch.ones(15)


def test_loss_of_other_parameters() -> None:
    other = torch.ones(3, requires_grad=True)
    with pytest.raises(ProbeError, match="does not depend on any of the probed parameters"):
        hessian(lambda m, x: (x * other).square().mean())


def test_loss_of_other_parameters_without_cache() -> None:
    other = torch.ones(3, requires_grad=True)
    probe = LossProbe(nn.Linear(3, 2), [INPUTS, INPUTS], loss=lambda m, x: (x * other).square().mean())
    with pytest.raises(ProbeError, match="does not depend on any"):
        HessianOperator(probe, max_cache_bytes=0) @ torch.ones(8)


def test_linear_loss_has_zero_hessian() -> None:
    operator = hessian(lambda m, x: m(x).mean())
    assert bool((operator @ torch.ones(8) == 0).all())
    assert eigsh(operator, 2).values.tolist() == [0, 0]


def test_loss_that_is_not_finite() -> None:
    with pytest.raises(ProbeError, match="loss of probe batch 0 is nan"):
        hessian(lambda m, x: m(x).mean() * float("nan"))


def test_second_derivative_that_is_not_finite() -> None:
    class Zero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

    operator = hessian(lambda m, x: (m.weight.abs() ** 1.5).sum(), Zero())
    with pytest.raises(ProbeError, match="product of the Hessian with a vector is not finite"):
        eigsh(operator, 1)


def test_operands_are_checked() -> None:
    operator = hessian(lambda m, x: m(x).square().mean())
    with pytest.raises(TypeError, match=r"torch\.float32, got torch.float64"):
        operator @ torch.ones(8, dtype=torch.float64)
    with pytest.raises(TypeError, match="got list"):
        operator @ [1.0]  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"\(8,\) or \(8, m\), got \(7,\)"):
        operator @ torch.ones(7)
    with pytest.raises(ValueError, match="on cpu, got one on meta"):
        operator @ torch.ones(8, device="meta")
    operator.close()
    with pytest.raises(ValueError, match="closed"):
        operator @ torch.ones(8)


def test_options_are_checked() -> None:
    probe = LossProbe(nn.Linear(3, 2), [INPUTS], loss=lambda m, x: m(x).square().mean())
    with pytest.raises(ValueError, match=r"`engine` is one of auto, reverse, .*, got 'forward'"):
        HessianOperator(probe, engine="forward")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`max_cache_bytes` must not be negative"):
        HessianOperator(probe, max_cache_bytes=-1)
    with pytest.raises(ValueError, match="`max_cache_bytes` is for the engine 'reverse'"):
        HessianOperator(probe, engine="finite_difference", max_cache_bytes=1)
