"""L-BFGS in matrices against the two loops, against dense updates, and against torch's own."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lightning_regimes.optim import CompactLBFGS, LBFGSFactory
from lightning_regimes.optim.curvature_pairs import CurvaturePairs


def quadratic_pairs(count: int, size: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Steps of falling length, and the changes of the gradient of a quadratic of condition 1e4."""
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    hessian = basis @ torch.diag(torch.logspace(-2, 2, size, dtype=torch.float64)) @ basis.T
    lengths = torch.logspace(0, -5, count, dtype=torch.float64)
    steps = [length * torch.randn(size, generator=generator, dtype=torch.float64) for length in lengths]
    return [(step, hessian @ step) for step in steps]


def dense_inverse_hessian(pairs: list[tuple[Tensor, Tensor]]) -> np.ndarray:
    """The BFGS updates of a multiple of the identity, as matrices."""
    step, change = (part.numpy() for part in pairs[-1])
    size = len(step)
    inverse = (step @ change) / (change @ change) * np.eye(size)
    for step, change in ((one.numpy(), other.numpy()) for one, other in pairs):
        projector = np.eye(size) - np.outer(step, change) / (step @ change)
        inverse = projector @ inverse @ projector.T + np.outer(step, step) / (step @ change)
    return inverse


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 12), kept=st.integers(1, 12), count=st.integers(1, 40), seed=st.integers(0, 2**31))
def test_the_product_is_that_of_dense_updates_whatever_was_dropped(size: int, kept: int, count: int, seed: int) -> None:
    made = quadratic_pairs(count, size, seed)
    pairs = CurvaturePairs(kept)
    for step, change in made:
        pairs.append(step, change)
    assert len(pairs) == min(kept, count)
    inverse = dense_inverse_hessian(made[-kept:])
    vector = torch.randn(size, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    found = pairs.inverse_hessian_product(vector).numpy()
    np.testing.assert_allclose(found, inverse @ vector.numpy(), rtol=0, atol=1e-9 * np.linalg.norm(inverse, 2))


def test_without_pairs_the_product_is_the_vector_and_the_secant_equation_holds_for_the_last() -> None:
    pairs = CurvaturePairs(3)
    vector = torch.arange(4.0)
    assert torch.equal(pairs.inverse_hessian_product(vector), vector)
    for step, change in quadratic_pairs(7, 4, 0):
        pairs.append(step, change)
        assert torch.allclose(pairs.inverse_hessian_product(change), step, rtol=1e-9, atol=1e-12)
    again = CurvaturePairs(3, **pairs.state())
    assert torch.equal(again.inverse_hessian_product(change), pairs.inverse_hessian_product(change))


def trained(
    kind: type[torch.optim.LBFGS], dtype: torch.dtype = torch.float64, **options: Any
) -> tuple[Any, list[float]]:
    """Logistic regression with features of many sizes: convex, so that rounding does not grow from step to step."""
    generator = torch.Generator().manual_seed(0)
    features = (torch.randn(80, 12, generator=generator, dtype=torch.float64) * torch.logspace(0, -2, 12)).to(dtype)
    signs = torch.where(torch.rand(80, generator=generator) < 0.5, -1, 1).to(dtype)
    weights, bias = nn.Parameter(torch.zeros(12, dtype=dtype)), nn.Parameter(torch.ones(1, dtype=dtype))
    optimizer = kind([weights, bias], **options)
    losses: list[float] = []

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.softplus(-signs * (features @ weights + bias)).mean() + 1e-6 * weights.square().sum()
        loss.backward()
        losses.append(loss.item())
        return loss

    for _ in range(4):
        optimizer.step(closure)
    return optimizer, losses


@pytest.mark.parametrize(
    "options",
    [
        {"line_search_fn": "strong_wolfe", "max_iter": 8, "history_size": 100},
        {"line_search_fn": "strong_wolfe", "max_iter": 8, "history_size": 5},
        {"line_search_fn": "strong_wolfe", "max_iter": 8, "max_eval": 4},
        {"line_search_fn": "strong_wolfe", "max_iter": 8, "tolerance_change": 1e-4},
        {"line_search_fn": "strong_wolfe", "max_iter": 8, "tolerance_grad": 2e-3},
        {"lr": 0.3, "max_iter": 8, "history_size": 10},
    ],
    ids=str,
)
def test_the_iterates_are_those_of_torch(options: dict[str, Any]) -> None:
    own, expected = trained(CompactLBFGS, **options), trained(torch.optim.LBFGS, **options)
    assert own[1] == pytest.approx(expected[1], rel=1e-6)
    for ours, theirs in zip(own[0]._params, expected[0]._params, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
    states = [next(iter(optimizer.state.values())) for optimizer in (own[0], expected[0])]
    assert states[0]["func_evals"] == states[1]["func_evals"]


def test_float32_gets_as_far_as_torch() -> None:
    options: dict[str, Any] = {"line_search_fn": "strong_wolfe", "max_iter": 50, "max_eval": 500, "history_size": 50}
    ours, theirs = (trained(kind, torch.float32, **options)[1] for kind in (CompactLBFGS, torch.optim.LBFGS))
    assert min(ours) == pytest.approx(min(theirs), rel=1e-5)
    assert min(ours) < 0.8 * ours[0]


def test_a_training_that_is_loaded_goes_on_bit_for_bit() -> None:
    network = nn.Linear(6, 1).double()
    at = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    other, stored = copy.deepcopy(network), None

    def run(module: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> None:
        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = (module(at).tanh() - at[:, :1]).square().mean()
            loss.backward()
            return loss

        for _ in range(count):
            optimizer.step(closure)

    whole = LBFGSFactory(max_iter=3, history_size=4)(network)
    assert isinstance(whole, CompactLBFGS)
    run(network, whole, 3)
    other.load_state_dict(network.state_dict())
    stored = copy.deepcopy(whole.state_dict())
    run(network, whole, 3)
    resumed = LBFGSFactory(max_iter=3, history_size=4)(other)
    assert isinstance(resumed, CompactLBFGS)
    resumed.load_state_dict(stored)
    run(other, resumed, 3)
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), other.parameters(), strict=True))


def test_another_line_search_is_refused() -> None:
    weights = nn.Parameter(torch.ones(2))
    with pytest.raises(ValueError, match="got 'armijo'"):
        CompactLBFGS([weights], line_search_fn="armijo").step(lambda: weights.sum())
