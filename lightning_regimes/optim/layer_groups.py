"""Parameter groups with a learning rate for each layer."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

LayerMultipliers = Sequence[float] | Mapping[str, float]


def layer_names(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, list[str]]:
    """Return the names of the parameters of each layer, in the order in which layers begin.

    A layer is what holds a weight of two dimensions or more of its own, with all else that it holds: a module, an entry
    of a parameter list, or a parameter of the outermost module.

    Args:
        parameters: pairs (name, parameter), such as ``module.named_parameters()``.
    """
    owners: dict[str, list[str]] = {}
    with_weights = set()
    for name, parameter in parameters:
        prefix, _, last = name.rpartition(".")
        owner = name if not prefix or last.isdigit() else prefix
        owners.setdefault(owner, []).append(name)
        if parameter.ndim >= 2:
            with_weights.add(owner)
    return {owner: names for owner, names in owners.items() if owner in with_weights}


def layerwise_lr_groups(module: nn.Module, multipliers: LayerMultipliers, **settings: Any) -> list[dict[str, Any]]:
    """Return a parameter group for each layer, marked with its multiplier for :class:`LayerBalancedLR`.

    The groups keep the optimizer's own learning rate, and the key ``lr_multiplier`` says what the scheduler makes of
    it. Parameters of no layer, such as those of a norm, are together in a last group without that key, which the
    scheduler leaves alone.

    Args:
        module: whose parameters that require a gradient are grouped; a tied one belongs to the layer that comes first.
        multipliers: one number a layer in their order, see :func:`layer_names`; or by glob patterns on the names of
            parameters, ``{"blocks.0.*": 2.0, "blocks.*": 1.0}``, of which the first that matches counts, and a layer
            without a match is one of the parameters of no layer.
        settings: further settings of all groups, such as ``lr``.

    Raises:
        ValueError: the numbers are not one a layer, a pattern matches nothing, or a multiplier is negative.
    """
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    layers = layer_names(parameters.items())
    values = _by_pattern(layers, multipliers) if isinstance(multipliers, Mapping) else _in_order(layers, multipliers)
    groups: list[dict[str, Any]] = [
        {"params": [parameters.pop(name) for name in layers[layer]], "lr_multiplier": value, "layer": layer, **settings}
        for layer, value in values.items()
    ]
    if parameters:
        groups.append({"params": list(parameters.values()), **settings})
    return groups


def _in_order(layers: dict[str, list[str]], multipliers: Sequence[float]) -> dict[str, float]:
    if len(multipliers) != len(layers):
        raise ValueError(
            f"`multipliers` has one number for each of the {len(layers)} layers ({', '.join(layers)}), got "
            f"{len(multipliers)}"
        )
    return require_multipliers(dict(zip(layers, map(float, multipliers), strict=True)))


def _by_pattern(layers: dict[str, list[str]], multipliers: Mapping[str, float]) -> dict[str, float]:
    used: set[str] = set()
    values: dict[str, float] = {}
    for layer, names in layers.items():
        matching = [pattern for pattern in multipliers if any(fnmatch.fnmatchcase(name, pattern) for name in names)]
        used.update(matching)
        if matching:
            values[layer] = float(multipliers[matching[0]])
    unused = [pattern for pattern in multipliers if pattern not in used]
    if unused:
        raise ValueError(f"`multipliers` match the layers {', '.join(layers)}, got {', '.join(unused)}")
    return require_multipliers(values)


def require_multipliers(values: dict[str, float]) -> dict[str, float]:
    """Return multipliers by name, or raise ValueError where one is negative or all are zero."""
    wrong = {name: value for name, value in values.items() if not 0 <= value < float("inf")}
    if wrong or not sum(values.values()) > 0:
        raise ValueError(f"`multipliers` are finite, not negative and not all zero, got {wrong or values}")
    return values
