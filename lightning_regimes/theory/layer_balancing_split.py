"""Which split of a learning rate over two layers gives the lowest loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from lightning_regimes.theory.layer_balancing import three_layer_loss, two_layer_loss
from lightning_regimes.theory.layer_balancing_surrogate import (
    Network,
    three_layer_surrogate_loss,
    two_layer_surrogate_loss,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class OptimalSplit:
    """The loss over the splits of a sum of two learning rates.

    Attributes:
        fraction: share of the first layer in the best split; the smaller one of two that are as good.
        loss: with that split.
        equal_loss: with equal rates.
        fractions: all that were compared, from 0 to 1, shape (points,).
        losses: with each of them, shape (points,).
        steps: number of steps.
    """

    fraction: float
    loss: float
    equal_loss: float
    fractions: Tensor
    losses: Tensor
    steps: int

    def figure(self) -> Figure:
        """Draw the loss over the split, with the equal and the best one."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.fractions.numpy(), self.losses.numpy())
        axes.plot(0.5, self.equal_loss, "*", color="0.2", markersize=12, label=f"equal, {self.equal_loss:.4g}")
        axes.plot(self.fraction, self.loss, "o", color="#c44e52", label=f"best, {self.loss:.4g} at {self.fraction:.3g}")
        after = "a step" if self.steps == 1 else f"{self.steps} steps"
        axes.set(xlabel="share of the first layer in the sum of the rates", ylabel=f"test loss after {after}")
        axes.legend()
        return figure


def optimal_split(
    total: float,
    *,
    width: int,
    steps: int = 1,
    network: Network = "two_layer",
    method: Literal["exact", "surrogate"] = "exact",
    points: int = 101,
) -> OptimalSplit:
    r"""Find the split :math:`\eta_1 = f s, \eta_2 = (1 - f) s` with the lowest mean test loss.

    The same split holds at every step. After one step the best is a single layer, f = 0, by a margin of the order
    1/h; after two steps it is f = 1/2 where the network is wide enough (:func:`equal_split_threshold`). That is a
    statement on two steps with the same split: with splits of their own, two steps do best with one layer first and
    the other one next, and the best common split may turn unequal again later, as that of the two-layer network does
    after four steps with :math:`s = 1.5\, h^{3/2}` and h = 1000.

    Args:
        total: s, sum of the rates.
        width: h.
        steps: number of steps with the same split.
        network: which one.
        method: ``"exact"`` by :func:`two_layer_loss` or :func:`three_layer_loss`; ``"surrogate"`` by their closed
            forms, for one or two steps.
        points: number of splits from 0 to 1, odd, so that the equal one is among them. The best is found to within one
            interval.

    Raises:
        ValueError: an argument is out of its range, or the loss is finite for no split.

    References:
        Layer balancing, arXiv:2606.00340.
    """
    if network not in get_args(Network):
        raise ValueError(f"`network` is one of {', '.join(get_args(Network))}, got {network!r}")
    if method not in ("exact", "surrogate"):
        raise ValueError(f"`method` is 'exact' or 'surrogate', got {method!r}")
    if points < 3 or points % 2 == 0:
        raise ValueError(f"`points` is odd and at least 3, got {points}")
    if steps < 1:
        raise ValueError(f"`steps` is at least 1, got {steps}")
    if not total > 0:
        raise ValueError(f"`total` is positive, got {total}")
    fractions = torch.linspace(0, 1, points, dtype=torch.float64)
    first, second = fractions * total, (1 - fractions) * total
    if method == "surrogate":
        surrogate = two_layer_surrogate_loss if network == "two_layer" else three_layer_surrogate_loss
        losses = surrogate(first, second, width=width, steps=steps)
    else:
        exact = two_layer_loss if network == "two_layer" else three_layer_loss
        pairs = torch.stack([first, second], dim=-1)[:, None].expand(-1, steps, -1)
        losses = exact(pairs, width=width)[:, -1]
    finite = losses.nan_to_num(nan=torch.inf)
    lowest = float(finite.min())
    if lowest == torch.inf:
        raise ValueError(f"`total` {total:g} makes training diverge with every split; choose a smaller one")
    # Splits that mirror each other differ by rounding only.
    best = int((finite <= lowest * (1 + 1e-12)).nonzero()[0])
    return OptimalSplit(
        fraction=float(fractions[best]),
        loss=float(losses[best]),
        equal_loss=float(losses[points // 2]),
        fractions=fractions,
        losses=losses,
        steps=steps,
    )
