"""Thresholds against the iterations of torch's own optimizers on a quadratic."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from lightning_regimes.curvature import stability_threshold


def growth(optimizer_class: type[torch.optim.Optimizer], curvature: float, options: dict[str, Any]) -> float:
    """Return by how much the late steps have grown on L(x) = curvature x² / 2."""
    position = nn.Parameter(torch.tensor([1e-60], dtype=torch.float64))
    optimizer = optimizer_class([position], **options)
    sizes = []
    for _ in range(400):
        optimizer.zero_grad()
        (0.5 * curvature * position.square()).sum().backward()
        optimizer.step()
        sizes.append(abs(position.item()))
    return max(sizes[-20:]) / max(sizes[180:200])


SGD = {
    "plain": {"lr": 0.05},
    "heavy ball": {"lr": 0.05, "momentum": 0.9},
    "dampened": {"lr": 0.05, "momentum": 0.8, "dampening": 0.5},
    "nesterov": {"lr": 0.02, "momentum": 0.9, "nesterov": True},
    "weight decay": {"lr": 0.1, "momentum": 0.5, "weight_decay": 3.0},
    "nesterov with weight decay": {"lr": 0.1, "momentum": 0.5, "weight_decay": 3.0, "nesterov": True},
}


@pytest.mark.parametrize("name", SGD)
def test_sgd_shrinks_below_and_grows_above(name: str) -> None:
    options: dict[str, Any] = SGD[name]
    threshold = stability_threshold(torch.optim.SGD([nn.Parameter(torch.ones(1))], **options))
    assert threshold.curvature == "hessian"
    assert threshold.value is not None
    assert growth(torch.optim.SGD, 0.98 * threshold.value, options) < 0.5
    assert growth(torch.optim.SGD, 1.02 * threshold.value, options) > 2


ADAPTIVE: list[tuple[type[torch.optim.Optimizer], dict[str, Any]]] = [
    (torch.optim.Adam, {"lr": 0.01}),
    (torch.optim.Adam, {"lr": 0.01, "betas": (0.5, 0.99)}),
    (torch.optim.AdamW, {"lr": 0.1, "weight_decay": 2.0}),
    (torch.optim.NAdam, {"lr": 0.01, "momentum_decay": 0.0}),
    (torch.optim.NAdam, {"lr": 0.1, "momentum_decay": 0.0, "weight_decay": 2.0, "decoupled_weight_decay": True}),
    (torch.optim.RMSprop, {"lr": 0.01}),
    (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.6}),
]


@pytest.mark.parametrize(("optimizer_class", "options"), ADAPTIVE)
def test_adaptive_optimizers_on_a_fixed_preconditioner(
    optimizer_class: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    # So close to the minimum, eps swamps the second moment: the preconditioner is the identity.
    options = {**options, "eps": 1.0}
    threshold = stability_threshold(optimizer_class([nn.Parameter(torch.ones(1))], **options))
    assert threshold.curvature == "preconditioned hessian"
    assert threshold.value is not None
    assert growth(optimizer_class, 0.98 * threshold.value, options) < 0.5
    assert growth(optimizer_class, 1.02 * threshold.value, options) > 2


def test_adam_at_its_defaults() -> None:
    value = stability_threshold(torch.optim.Adam([nn.Parameter(torch.ones(1))], lr=0.01)).value
    assert value == pytest.approx(38 / 0.01)


def test_nadam_comes_to_nesterov_as_its_momentum_rises() -> None:
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.NAdam([parameter], lr=0.01)
    assert stability_threshold(optimizer).value == pytest.approx(3.8 / (0.01 * (1.9 - 0.81)), rel=1e-3)
    optimizer.state[parameter]["step"] = torch.tensor(1e6)
    assert stability_threshold(optimizer).value == pytest.approx(3.8 / (0.01 * 0.1 * 2.8))


def test_smallest_over_groups_counts() -> None:
    first, second, third = (nn.Parameter(torch.ones(1)) for _ in range(3))
    groups = [{"params": [first], "lr": 0.1}, {"params": [second], "lr": 0.5}, {"params": [third], "lr": 0.0}]
    assert stability_threshold(torch.optim.SGD(groups)).value == pytest.approx(4)
    assert stability_threshold(torch.optim.SGD([first], lr=0.0)).value == math.inf


def test_learning_rate_may_be_a_tensor() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=torch.tensor(0.25))
    assert stability_threshold(optimizer).value == pytest.approx(8)


def test_subclasses_and_wrappers_are_told_by_their_bases() -> None:
    class LightningSGD(torch.optim.SGD):
        pass

    assert stability_threshold(LightningSGD([nn.Parameter(torch.ones(1))], lr=0.5)).value == pytest.approx(4)


def test_unknown_optimizers_say_so() -> None:
    threshold = stability_threshold(torch.optim.LBFGS([nn.Parameter(torch.ones(1))]))
    assert threshold.value is None
    assert threshold.curvature is None
    assert threshold.reason == "no stability threshold is known for LBFGS"
    ascent = stability_threshold(torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1, maximize=True))
    assert ascent.value is None
    assert ascent.reason == "the optimizer maximizes"
