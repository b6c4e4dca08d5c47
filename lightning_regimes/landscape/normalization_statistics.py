"""Running statistics of normalisation layers at points where no training has left them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from lightning_regimes.probe import LossProbe

BatchNorm = Literal["recompute", "interpolate", "frozen"]

_KINDS = ("running_mean", "running_var")


def require_batch_norm(batch_norm: str) -> None:
    """Raise ValueError unless it is one of the three treatments."""
    if batch_norm not in get_args(BatchNorm):
        raise ValueError(f"`batch_norm` is one of {', '.join(get_args(BatchNorm))}, got {batch_norm!r}")


def running_statistics(module: nn.Module) -> dict[str, Tensor]:
    """Return the running means and variances that the module computes with in its present modes, by name."""
    return {_path(name, kind): getattr(layer, kind) for name, layer in _layers(module).items() for kind in _KINDS}


def probed_statistics(probe: LossProbe) -> dict[str, Tensor]:
    """Return copies of the running statistics that the loss of a probe depends on; none in its mode ``"train"``."""
    with probe.isolated():
        return {name: tensor.detach().clone() for name, tensor in running_statistics(probe.module).items()}


def with_batch_statistics(probe: LossProbe) -> LossProbe:
    """Return a probe of the same loss, at the same point, that normalises each batch by its own statistics."""
    evaluate = probe.loss_function

    def loss(module: nn.Module, batch: Any) -> Any:
        layers = _layers(module)
        try:
            for layer in layers.values():
                layer.training = True
            return evaluate(module, batch)
        finally:
            for layer in layers.values():
                layer.training = False

    return probe.with_loss(loss)


def recomputed_statistics(probe: LossProbe) -> dict[str, Tensor]:
    """Return the running statistics that one pass over the batches of a probe gives at its point.

    Each batch is normalised by its own mean and variance, as in training, and these are averaged with the weights of
    the batches, over all processes.

    References:
        Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, arXiv:1803.05407, §3.2.
    """
    home = probed_statistics(probe)
    if not home:
        return {}
    with probe.isolated():
        layers = _layers(probe.module)
        counters = {_path(name, "num_batches_tracked") for name in layers} & probe.fixed_tensors.keys()
        blank = {path: torch.zeros_like(probe.fixed_tensors[path]) for path in home.keys() | counters}

        def own() -> Tensor:
            # Each evaluation starts from the blank statistics again, since the last one has changed its copy of them.
            found = []
            for index, weight in enumerate(probe.weights):
                probe.batch_value(index)
                flat = [getattr(layer, kind).detach().flatten() for layer in layers.values() for kind in _KINDS]
                found.append(weight * torch.cat(flat).double())
            return torch.stack(found).sum(0)

        with probe.replaced(blank), _averaging(layers.values()):
            total = probe.processes.sum(
                own,
                shape=(sum(tensor.numel() for tensor in home.values()),),
                dtype=torch.float64,
                device=next(iter(home.values())).device,
            )
    pieces = total.split([tensor.numel() for tensor in home.values()])
    return {path: piece.view_as(own).to(own) for (path, own), piece in zip(home.items(), pieces, strict=True)}


@contextlib.contextmanager
def _averaging(layers: Iterable[_NormBase]) -> Iterator[None]:
    """Let the layers, which are in evaluation mode, note the plain average of what they see."""
    momenta = [(layer, layer.momentum) for layer in layers]
    try:
        for layer, _ in momenta:
            # Batch normalisation averages over several calls without a momentum; others know no such mode.
            layer.training, layer.momentum = True, None if isinstance(layer, _BatchNorm) else 1.0
        yield
    finally:
        for layer, momentum in momenta:
            layer.training, layer.momentum = False, momentum


def _layers(module: nn.Module) -> dict[str, _NormBase]:
    return {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, _NormBase) and not layer.training and layer.running_mean is not None
    }


def _path(layer: str, kind: str) -> str:
    return f"{layer}.{kind}" if layer else kind
