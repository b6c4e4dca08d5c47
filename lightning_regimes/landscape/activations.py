"""What the submodules of a network return in a forward pass that leaves no trace."""

from __future__ import annotations

import contextlib
import fnmatch
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lightning_regimes.batches import map_tensors
from lightning_regimes.isolation import isolated

Forward: TypeAlias = Callable[[Any, Any], Any]


@contextlib.contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """Hold a module in evaluation mode; what its code changes in it inside, buffers too, is put back."""
    tensor = next((each for each in (*module.parameters(), *module.buffers()) if each.is_floating_point()), None)
    device = torch.device("cpu") if tensor is None else tensor.device
    dtype = torch.get_default_dtype() if tensor is None else tensor.dtype
    with isolated(module, mode="eval", device=device, dtype=dtype) as slots:
        copies: dict[int, Tensor] = {}
        for slot in slots:
            if not isinstance(slot.tensor, nn.Parameter):
                original = slot.tensor
                slot.fill(copies.setdefault(id(original), original.clone()))
        yield


def matching_layers(module: nn.Module, layers: str | Sequence[str] | None, argument: str) -> list[str]:
    """Return the submodules of these names or patterns in order; by default all without children.

    Raises:
        ValueError: a pattern matches none; ``argument`` is named.
    """
    names = [name for name, _ in module.named_modules() if name]
    if layers is None:
        return [name for name in names if next(module.get_submodule(name).children(), None) is None]
    patterns = [layers] if isinstance(layers, str) else list(layers)
    matched: list[str] = []
    for pattern in patterns:
        found = [pattern] if pattern in names else fnmatch.filter(names, pattern)
        if not found:
            raise ValueError(
                f"`{argument}` has {pattern!r}, which matches no submodule of {type(module).__name__}; there are "
                + ", ".join(names[:10])
                + (" and more" if len(names) > 10 else "")
            )
        matched += [name for name in found if name not in matched]
    return matched


def activations(
    module: nn.Module, names: list[str], batch: Any, forward: Forward, *, strict: bool
) -> dict[str, Tensor]:
    """Return what submodules return in one forward pass, copied; the hooks are gone afterwards.

    Args:
        module: inside :func:`at_rest`.
        names: of submodules.
        batch: is copied to the module's device.
        forward: ``forward(module, batch)``.
        strict: raise where one isn't run through or returns no tensor, instead of leaving it out.

    Raises:
        ValueError: as above.
        TypeError: as above.
    """
    found: dict[str, Any] = {}
    handles = []

    def remember(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(layer: nn.Module, inputs: Any, output: Any) -> None:
            # A copy: the next layer may work in place.
            found[name] = output.detach().clone() if isinstance(output, Tensor) else output

        return hook

    device = next((tensor.device for tensor in module.parameters()), None)
    try:
        handles = [module.get_submodule(name).register_forward_hook(remember(name)) for name in names]
        # Gradients are on: a network may differentiate itself on the way.
        forward(module, map_tensors(batch, lambda tensor: tensor.detach().to(device, copy=True)))
    finally:
        for handle in handles:
            handle.remove()
    if strict:
        for name in names:
            if name not in found:
                raise ValueError(f"the forward pass of {type(module).__name__} doesn't run through the layer {name!r}")
            if not isinstance(found[name], Tensor) or found[name].ndim == 0:
                raise TypeError(f"the layer {name!r} returns {type(found[name]).__name__}, not a tensor with samples")
    return {name: found[name] for name in names if isinstance(found.get(name), Tensor) and found[name].ndim > 0}
