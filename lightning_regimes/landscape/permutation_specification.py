"""Which axes of a network's tensors its hidden units lie on, so that these may be permuted together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.dropout import _DropoutNd

from lightning_regimes.isolation import preserved_rng

_POOLINGS = tuple(
    getattr(nn, f"{kind}Pool{dimension}d")
    for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg")
    for dimension in (1, 2, 3)
)


@dataclass(frozen=True)
class PermutationSpecification:
    """The symmetries of a network: groups of axes that one permutation acts on without changing the function.

    Attributes:
        axes: for each tensor of the state dict, by name, the name of the permutation of each axis, or ``None``. The
            tensors that aren't named stay as they are. An axis may be k times as long as its permutation: then each
            unit owns k consecutive entries, as a channel does behind ``Flatten``.
        odd: the permutations whose units may also change sign, because all that follows is odd, such as tanh.
        unsigned: the tensors that a change of sign leaves as they are, such as a running variance.
    """

    axes: Mapping[str, tuple[str | None, ...]]
    odd: frozenset[str] = frozenset()
    unsigned: frozenset[str] = frozenset()

    def sizes(self, state: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the number of units of each permutation.

        Raises:
            ValueError: the tensors of a state dict don't fit.
        """
        lengths: dict[str, list[int]] = {}
        for name, entries in self.axes.items():
            if name not in state:
                raise ValueError(f"`specification` names {name!r}, which the state dict lacks")
            if len(entries) != state[name].ndim:
                raise ValueError(
                    f"`specification` has {len(entries)} axes for {name!r} of shape {tuple(state[name].shape)}"
                )
            for entry, length in zip(entries, state[name].shape, strict=True):
                if entry is not None:
                    lengths.setdefault(entry, []).append(length)
        for entry, found in lengths.items():
            if any(length % min(found) for length in found):
                raise ValueError(f"`specification` lets {entry!r} act on axes of lengths {sorted(set(found))}")
        unknown = self.odd - lengths.keys()
        if unknown:
            raise ValueError(f"`specification.odd` names no permutation of its axes: {sorted(unknown)}")
        return {entry: min(found) for entry, found in lengths.items()}


def infer_specification(module: nn.Module) -> PermutationSpecification:
    """Return the permutations of a chain of layers: ``nn.Sequential``, nested or inside one wrapper or several.

    The chain may hold Linear, Conv, BatchNorm, LayerNorm over one axis, Dropout, pooling, ``Flatten()``, and any
    activation without parameters that acts on each element alone; whether it does, and whether it is odd, is tried out.
    A module that is no ``Sequential`` counts as a wrapper if exactly one of its children has parameters; it may do
    anything before and after, but calls that child as a whole. The units of the last layer stay.

    Raises:
        ValueError: the module is no such chain.
    """
    chain = _Chain()
    for name, layer in _layers(module):
        chain.add(name, layer)
    return chain.finish()


def _layers(module: nn.Module, prefix: str = "") -> list[tuple[str, nn.Module]]:
    # Not `named_children`, which passes over a layer that occurs again.
    children = [
        (f"{prefix}.{name}" if prefix else name, child) for name, child in module._modules.items() if child is not None
    ]
    if isinstance(module, nn.Sequential):
        return [layer for name, child in children for layer in _layers(child, name)]
    if not children:
        return [(prefix, module)]
    with_parameters = [(name, child) for name, child in children if any(True for _ in child.parameters())]
    if len(with_parameters) != 1:
        raise ValueError(
            f"the permutations of {type(module).__name__} can't be inferred: it is no Sequential, and "
            f"{len(with_parameters)} of its children have parameters; pass `specification`"
        )
    return _layers(with_parameters[0][1], with_parameters[0][0])


@dataclass
class _Chain:
    """The state of a walk along the layers, from the inputs on.

    Attributes:
        units: the permutation of the current features; ``None`` before the first layer.
        last: the layer that made them.
        size: number of units.
        channels: whether they are channels of an image, and not yet flat.
        blocks: whether they were channels, so that each owns consecutive entries.
        mixed_by: a function that acted on the units together, or not on all alike; behind it there may be no further
            layer.
        seen: ids of the parameters so far.
    """

    axes: dict[str, tuple[str | None, ...]] = field(default_factory=dict)
    odd: set[str] = field(default_factory=set)
    unsigned: set[str] = field(default_factory=set)
    units: str | None = None
    size: int = 0
    channels: bool = False
    blocks: bool = False
    mixed_by: str = ""
    seen: set[int] = field(default_factory=set)

    def add(self, name: str, layer: nn.Module) -> None:
        parameters = set(map(id, layer.parameters()))
        if parameters & self.seen:
            raise ValueError(
                f"the layer {name!r} occurs twice in the chain, or shares a parameter with one before it; pass "
                "`specification`"
            )
        self.seen |= parameters
        if self.mixed_by and parameters:
            raise ValueError(
                f"{self.mixed_by} acts on hidden units together, or not on all of them alike; pass `specification`"
            )
        if isinstance(layer, nn.Linear):
            fits = layer.in_features == self.size or (self.blocks and layer.in_features % self.size == 0)
            if self.channels or (self.units is not None and not fits):
                raise ValueError(f"the layer {name!r} doesn't act on the units before it; pass `specification`")
            self._add_weights(name, layer, layer.out_features, ndim=2)
        elif isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd) and layer.groups == 1:
            if self.units is not None and not self.channels:
                raise ValueError(f"the layer {name!r} doesn't act on the units before it; pass `specification`")
            self._add_weights(name, layer, layer.out_channels, ndim=layer.weight.ndim)
            self.channels = True
        elif isinstance(layer, _BatchNorm) or (isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1):
            self._add_normalization(name, layer)
        elif isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            self.channels, self.blocks = False, self.blocks or self.channels
        elif isinstance(
            layer, nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d | nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d
        ):
            self._require_channels(name)
            self._not_odd()
        elif isinstance(layer, _POOLINGS):
            self._require_channels(name)
        elif not isinstance(layer, _DropoutNd | nn.Identity) and self.units is not None:
            self._add_activation(name, layer)

    def finish(self) -> PermutationSpecification:
        """Fix the units of the last layer, which are the outputs."""
        kept = {
            name: tuple(None if entry == self.units else entry for entry in entries)
            for name, entries in self.axes.items()
        }
        kept = {name: entries for name, entries in kept.items() if any(entries)}
        if not kept:
            raise ValueError("the module has no hidden units to permute: it needs two layers with weights or more")
        return PermutationSpecification(
            kept, frozenset(self.odd - {self.units or ""}), frozenset(self.unsigned & kept.keys())
        )

    def _add_weights(self, name: str, layer: nn.Module, size: int, *, ndim: int) -> None:
        prefix = f"{name}." if name else ""
        self.axes[f"{prefix}weight"] = (name, self.units, *[None] * (ndim - 2))
        if layer.bias is not None:
            self.axes[f"{prefix}bias"] = (name,)
        self.units, self.size, self.channels, self.blocks = name, size, False, False
        self.odd.add(name)

    def _add_normalization(self, name: str, layer: nn.Module) -> None:
        if self.units is None:
            return
        tensors = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}
        for own, tensor in tensors.items():
            if tensor.ndim == 1:
                self.axes[f"{name}.{own}"] = (self.units,)
                if own in ("weight", "running_var"):
                    self.unsigned.add(f"{name}.{own}")
        if isinstance(layer, nn.LayerNorm):
            if self.channels:
                raise ValueError(f"the layer {name!r} doesn't act on the units before it; pass `specification`")
            self._not_odd()

    def _add_activation(self, name: str, layer: nn.Module) -> None:
        if any(True for _ in layer.parameters()):
            raise ValueError(f"{type(layer).__name__} {name!r} isn't a layer of a known kind; pass `specification`")
        acts_alike, is_odd = _tried(layer, self.size, channels=self.channels)
        if not acts_alike:
            # Behind the last weights anything may happen: only a further layer makes it an error.
            self.mixed_by = f"{type(layer).__name__} {name!r}"
        if not is_odd:
            self._not_odd()

    def _not_odd(self) -> None:
        self.odd.discard(self.units or "")

    def _require_channels(self, name: str) -> None:
        if self.units is not None and not self.channels:
            raise ValueError(f"the layer {name!r} mixes the units before it; pass `specification`")


def _tried(layer: nn.Module, size: int, *, channels: bool) -> tuple[bool, bool]:
    """Return whether a function without parameters acts on each unit alone and on all alike, and whether it is odd."""
    generator = torch.Generator().manual_seed(0)
    inputs = 3 * torch.randn((4, size, 3, 3) if channels else (4, size), generator=generator)
    # A swap and a cycle, of which all permutations are made.
    swap = torch.arange(size)
    swap[:2] = swap[:2].flip(0)
    cycle = torch.arange(size).roll(1)
    training = layer.training
    try:
        with preserved_rng(), torch.no_grad():
            layer.training = False
            outputs, flipped = layer(inputs.clone()), layer(-inputs)
            single = layer(inputs.flatten()[:1].view(1, 1, 1, 1) if channels else inputs[:1, :1])
            permuted = [(layer(inputs[:, order]), order) for order in (swap, cycle)]
    except Exception:  # a layer that refuses these inputs is none that acts on units alone
        return False, False
    finally:
        layer.training = training
    if outputs.shape != inputs.shape:
        return False, False
    alike = torch.allclose(single.flatten(), outputs.flatten()[:1], atol=1e-6) and all(
        torch.allclose(output, outputs[:, order], atol=1e-6) for output, order in permuted
    )
    return alike, alike and torch.allclose(flipped, -outputs, atol=1e-6)
