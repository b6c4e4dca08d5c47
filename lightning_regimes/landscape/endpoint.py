"""The second of two points between which the loss is looked at, in the coordinates of a probe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from lightning_regimes.landscape.normalization_statistics import running_statistics
from lightning_regimes.probe import LossProbe

#: A flat vector in the order of the probe's parameters, a state dict, or a module of the same architecture.
Solution: TypeAlias = Tensor | Mapping[str, Tensor] | nn.Module


@dataclass(frozen=True, eq=False)
class Endpoint:
    """Another solution of the same architecture.

    Attributes:
        vector: its parameters, shape (num_parameters,), on the device and in the dtype of the probe.
        statistics: the running statistics of its normalisation layers by name of the buffer; ``None`` where it brings
            none, as a vector.
        fixed: what it has for the probe's fixed tensors, buffers and parameters that are not probed, by path; empty
            where it was given as a vector.
    """

    vector: Tensor
    statistics: dict[str, Tensor] | None
    fixed: dict[str, Tensor]


def endpoint(probe: LossProbe, other: Solution, *, same_fixed: bool = True) -> Endpoint:
    """Return another solution in the coordinates of a probe.

    Args:
        probe: of the first solution.
        other: the second one. A state dict or a module has to agree with the probe's module in names and shapes, and
            in the values of those parameters that the probe holds fixed. A vector says nothing of these.
        same_fixed: refuse a solution that differs in what the probe holds fixed; a path through the probe's parameters
            alone would not lead there.

    Raises:
        TypeError: ``other`` is none of the three.
        ValueError: it doesn't fit.
    """
    if isinstance(other, Tensor):
        if other.shape != (probe.num_parameters,) or other.is_complex():
            raise ValueError(
                f"`other` as a vector is real, of shape ({probe.num_parameters},), got {tuple(other.shape)} of "
                f"{other.dtype}"
            )
        return Endpoint(other.detach().to(probe.device, probe.dtype, copy=True), None, {})
    if isinstance(other, nn.Module):
        tensors = dict(other.named_parameters(remove_duplicate=False)) | dict(
            other.named_buffers(remove_duplicate=False)
        )
    elif isinstance(other, Mapping):
        tensors = {name: tensor for name, tensor in other.items() if isinstance(tensor, Tensor)}
    else:
        raise TypeError(f"`other` is a flat vector, a state dict or a module, got {type(other).__name__}")

    with probe.isolated():
        module = probe.module
        parameters = dict(module.named_parameters(remove_duplicate=False))
        # What a metric keeps is in a state dict as well, and no part of the solution.
        known = parameters.keys() | {name for name, _ in module.named_buffers(remove_duplicate=False)}
        known |= module.state_dict().keys()
        _refuse_names("lacks", [name for name in parameters if name not in tensors])
        _refuse_names("has no counterpart in the probed module for", [name for name in tensors if name not in known])
        for name, own in parameters.items():
            if tensors[name].shape != own.shape:
                raise ValueError(
                    f"`other` has {name!r} of shape {tuple(tensors[name].shape)}, the probed module "
                    f"{tuple(own.shape)}: only solutions of one architecture can be connected"
                )
            if same_fixed and not own.requires_grad and not torch.equal(tensors[name].detach().to(own), own):
                raise ValueError(
                    f"`other` differs in {name!r}, which the probe holds fixed; include it in the probe's "
                    "`parameters`, or pass a flat vector to connect the rest"
                )
        own_statistics = running_statistics(module)
        statistics = None
        if all(name in tensors for name in own_statistics):
            statistics = {name: tensors[name].detach().to(own, copy=True) for name, own in own_statistics.items()}
    leaves = [_as_real(tensors[name].detach()).to(leaf) for name, leaf in probe.parameters.items()]
    fixed = {
        path: tensors[path].detach().to(own, copy=True)
        for path, own in probe.fixed_tensors.items()
        if path in tensors and tensors[path].shape == own.shape
    }
    return Endpoint(probe.flatten(leaves), statistics, fixed)


def _refuse_names(what: str, names: list[str]) -> None:
    if names:
        shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise ValueError(f"`other` {what} {shown}: only solutions of one architecture can be connected")


def _as_real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor
