"""Which split of the learning rate over the layers lowers the held-out loss of a module, by trying them."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_regimes.optim.layer_groups import layer_names
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LayerSplits:
    """Held-out losses with the splits that were tried.

    Attributes:
        layers: names of the layers.
        splits: share of each layer in the sum of the rates, shape (k, layers), rows that sum to one.
        losses: held-out loss with each split, shape (k,), float64; not finite where the step diverged.
        start: held-out loss before the step.
        equal: held-out loss with equal rates.
        steps: number of steps.
    """

    layers: tuple[str, ...]
    splits: Tensor
    losses: Tensor
    start: float
    equal: float
    steps: int

    @property
    def best(self) -> int:
        """Index of the split with the lowest finite loss.

        Raises:
            ValueError: no loss is finite.
        """
        if not bool(torch.isfinite(self.losses).any()):
            raise ValueError("no split has a finite held-out loss: choose a smaller learning rate")
        return int(self.losses.nan_to_num(nan=torch.inf).argmin())

    @property
    def multipliers(self) -> tuple[float, ...]:
        """The best split as multipliers for :class:`LayerBalancedLR`, 1 on average."""
        return tuple((self.splits[self.best] * len(self.layers)).tolist())

    def figure(self) -> Figure:
        """Draw the held-out loss over the share of the first layer."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 3.2), layout="constrained")
        axes = figure.subplots()
        axes.plot(self.splits[:, 0], self.losses, marker="o", markersize=4)
        axes.plot(1 / len(self.layers), self.equal, "*", color="0.2", markersize=12, label=f"equal, {self.equal:.4g}")
        axes.axhline(self.start, color="0.4", linestyle="--", label=f"before, {self.start:.4g}")
        after = "a step" if self.steps == 1 else f"{self.steps} steps"
        axes.set(xlabel=f"share of {self.layers[0]} in the sum of the rates", ylabel=f"held-out loss after {after}")
        axes.legend()
        return figure


def probe_layer_split(
    probe: LossProbe,
    heldout: LossProbe,
    *,
    learning_rate: float,
    splits: Sequence[Sequence[float]] | Tensor | None = None,
    layers: Sequence[str] | None = None,
    steps: int = 1,
    direction: Callable[[Tensor], Tensor] | None = None,
) -> LayerSplits:
    r"""Try splits of the learning rate over the layers, each from the probe's point, and evaluate the held-out loss.

    .. math:: \theta_\ell \leftarrow \theta_\ell - \eta L f_\ell \, d(g_\ell), \qquad \sum_\ell f_\ell = 1

    with L the number of layers, g the gradient of ``probe`` and f a split; what belongs to no layer moves with η. The
    first step takes a single gradient for all splits, and each split its own afterwards. The module is not changed.

    Args:
        probe: the training loss.
        heldout: the same module and parameters, other batches.
        learning_rate: η.
        splits: shares of the layers, shape (k, layers), in proportion; default 11 shares of the first layer, from 0 to
            1, with the others alike.
        layers: glob patterns on the names of parameters, one a layer, of which the first that matches counts; default
            all layers of :func:`layer_names`.
        steps: number of steps with the same split.
        direction: d, what the optimizer makes of the gradient of a parameter, such as
            :func:`~lightning_regimes.optim.row_normalize`; default the gradient itself. It is given what has two
            dimensions or more in a layer; all else moves along its gradient.

    Raises:
        ValueError: an argument is out of its range, the probes do not have the same parameters, or there are fewer than
            two layers.
        ProbeError: the loss has no gradient.
    """
    if not learning_rate > 0:
        raise ValueError(f"`learning_rate` is positive, got {learning_rate}")
    if steps < 1:
        raise ValueError(f"`steps` is at least 1, got {steps}")
    shapes, others = ({name: leaf.shape for name, leaf in one.parameters.items()} for one in (probe, heldout))
    if shapes != others or probe.module is not heldout.module:
        raise ValueError("`heldout` is a probe of the same module and parameters as `probe`, got another one")
    found = _layers(probe, layers)
    shares = _shares(splits, len(found))
    layer_of = {name: index for index, names in enumerate(found.values()) for name in names}
    start = [leaf.detach() for leaf in probe.parameters.values()]
    names = list(probe.parameters)

    def stepped(point: list[Tensor], gradient: Tensor, split: Tensor) -> list[Tensor]:
        moved = []
        for name, leaf, part in zip(names, point, probe.unflatten(gradient), strict=True):
            layer = layer_of.get(name)
            rate = learning_rate * (1.0 if layer is None else float(split[layer]) * len(found))
            turns = direction is not None and layer is not None and part.ndim >= 2
            moved.append(leaf - rate * (direction(part) if turns and direction is not None else part))
        return moved

    first = probe.gradient()
    equal = torch.full((1, len(found)), 1 / len(found), dtype=torch.float64)
    losses = []
    for split in torch.cat([shares, equal]):
        point = stepped(start, first, split)
        for _ in range(steps - 1):
            with probe.moved([leaf.clone().requires_grad_() for leaf in point]):
                gradient = probe.gradient()
            point = stepped(point, gradient, split)
        with heldout.moved(point):
            losses.append(float(heldout.loss()))
    with heldout.moved(start):
        before = float(heldout.loss())
    *tried, with_equal = losses
    return LayerSplits(tuple(found), shares, torch.tensor(tried, dtype=torch.float64), before, with_equal, steps)


def _layers(probe: LossProbe, patterns: Sequence[str] | None) -> dict[str, list[str]]:
    if patterns is None:
        found = layer_names(probe.parameters.items())
    else:
        found = {pattern: [] for pattern in patterns}
        for name in probe.parameters:
            matching = next((pattern for pattern in patterns if fnmatch.fnmatchcase(name, pattern)), None)
            if matching is not None:
                found[matching].append(name)
        empty = [pattern for pattern, names in found.items() if not names]
        if empty:
            raise ValueError(f"`layers` are patterns of parameters, got {empty[0]!r}, which is left with none")
    if len(found) < 2:
        raise ValueError(f"a split takes two layers or more, got {len(found)}; name them by `layers`")
    return found


def _shares(splits: Sequence[Sequence[float]] | Tensor | None, count: int) -> Tensor:
    if splits is None:
        first = torch.linspace(0, 1, 11, dtype=torch.float64)[:, None]
        return torch.cat([first, ((1 - first) / (count - 1)).expand(-1, count - 1)], dim=1)
    shares = torch.as_tensor(splits, dtype=torch.float64)
    if shares.ndim != 2 or shares.shape[1] != count or not len(shares):
        raise ValueError(f"`splits` has one share for each of the {count} layers, got shape {tuple(shares.shape)}")
    if not bool(((shares >= 0) & torch.isfinite(shares)).all() and (shares.sum(1) > 0).all()):
        raise ValueError(f"`splits` are finite, not negative, and not all zero, got {shares.tolist()}")
    return shares / shares.sum(1, keepdim=True)
