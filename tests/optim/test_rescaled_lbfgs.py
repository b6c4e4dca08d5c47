"""That L-BFGS goes on where the loss is small, and is the same at every scale of it."""

import pytest
import torch

from lightning_regimes.networks import MLP
from lightning_regimes.optim import LBFGSFactory, RescaledLBFGS

CURVATURES = torch.logspace(0, 3, 20, dtype=torch.float64)


def minimized(kind: type[torch.optim.LBFGS], scale: float, num_steps: int = 4) -> float:
    """Return the value of a quadratic of condition 1000 over its first, after so many steps of 20 iterations."""
    weights = torch.nn.Parameter(torch.ones(20, dtype=torch.float64))
    optimizer = kind([weights], line_search_fn="strong_wolfe", tolerance_grad=0.0, tolerance_change=0.0)

    def value() -> torch.Tensor:
        return scale * (CURVATURES * weights.square()).sum() / 2

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = value()
        loss.backward()
        return loss

    first = value().item()
    returned = [optimizer.step(closure).item() for _ in range(num_steps)]
    assert returned[0] == pytest.approx(first)
    return value().item() / first


def test_a_small_loss_is_minimized_as_far_as_a_large_one():
    assert minimized(torch.optim.LBFGS, 1.0) < 1e-6
    # Pairs of this size are left out: steepest descent is what remains.
    assert minimized(torch.optim.LBFGS, 1e-14) > 1e-3
    assert minimized(RescaledLBFGS, 1e-14) == pytest.approx(minimized(RescaledLBFGS, 1.0), rel=1e-3)
    assert minimized(RescaledLBFGS, 1e-14) < 1e-6


def test_the_factory_makes_it_and_a_loss_of_zero_is_no_division():
    assert isinstance(LBFGSFactory(rescale=True)(MLP(2, 1, hidden_sizes=(3,))), RescaledLBFGS)
    weights = torch.nn.Parameter(torch.zeros(2))
    optimizer = RescaledLBFGS([weights])

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weights.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 0.0


def test_a_line_search_that_overflows_is_undone_and_the_next_step_starts_anew(monkeypatch):
    weights = torch.nn.Parameter(torch.ones(2))
    optimizer = RescaledLBFGS([weights], line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = weights.square().sum()
        loss.backward()
        return loss

    def overflows(step_size: float, direction: torch.Tensor) -> None:
        weights.data.add_(direction)
        weights.data.add_(direction, alpha=1e39)

    with monkeypatch.context() as patched:
        patched.setattr(optimizer, "_add_grad", overflows)
        assert optimizer.step(closure).item() == 2.0
    assert torch.equal(weights, torch.ones(2))
    assert not optimizer.state
    optimizer.step(closure)
    assert closure().item() < 1e-6
