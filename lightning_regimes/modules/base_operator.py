"""The trained operator that a refinement starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from lightning_regimes.modules.neural_operator import NeuralOperator
from lightning_regimes.modules.stored_operator import as_operator_class_path


def load_base(base: nn.Module | None, checkpoint: str | Path | None) -> nn.Module:
    """Return a frozen operator in evaluation mode.

    Args:
        base: the operator; without it, the one of a :class:`NeuralOperator` that the checkpoint holds.
        checkpoint: of a LightningModule that is the operator, or has it as a part; or a directory, such as that of a
            run, in which the newest ``last.ckpt``, or other checkpoint, is taken.

    Raises:
        ValueError: neither is given, or the checkpoint holds another network.
        FileNotFoundError: there is no checkpoint.
    """
    if checkpoint is not None:
        path = _find_checkpoint(Path(checkpoint))
        base = _load_neural_operator(path) if base is None else _load_weights(base, path)
    if base is None:
        raise ValueError("a refinement needs a trained operator: give `base`, or `base_checkpoint`")
    base.requires_grad_(False)
    return base.eval()


def as_base_class_path(base: nn.Module) -> dict[str, Any] | None:
    """Return ``{"class_path": …, "init_args": …}`` of a base whose arguments are known, without its weights."""
    if not isinstance(base, L.LightningModule):
        return as_operator_class_path(base)
    init_args = {name: value for name, value in base.hparams.items() if name != "_instantiator"}
    if isinstance(base, NeuralOperator) and "operator" not in init_args:
        return None
    return {"class_path": f"{type(base).__module__}.{type(base).__qualname__}", "init_args": init_args}


def _find_checkpoint(path: Path) -> Path:
    if path.is_file():
        return path
    for pattern in ("last.ckpt", "*.ckpt"):
        found = list(path.rglob(pattern)) if path.is_dir() else []
        if found:
            return max(found, key=lambda file: file.stat().st_mtime)
    raise FileNotFoundError(
        f"`base_checkpoint` {path} is no checkpoint, nor a directory with one: train an operator first, for example by "
        "`lightning-regimes fit -c configs/tfno_navier_stokes.yaml`"
    )


def _load_neural_operator(path: Path) -> NeuralOperator:
    hyper_parameters = torch.load(path, map_location="cpu", weights_only=True).get("hyper_parameters", {})
    if "operator" not in hyper_parameters:
        raise ValueError(
            f"{path} doesn't say how its operator was made: give the operator as `base`, with `base_checkpoint` for "
            "its weights"
        )
    return NeuralOperator.load_from_checkpoint(path, map_location="cpu", weights_only=True)


def _load_weights(base: nn.Module, path: Path) -> nn.Module:
    stored = torch.load(path, map_location="cpu", weights_only=False)
    state: Mapping[str, Tensor] = stored.get("state_dict", stored)
    names = [name for name in base.state_dict() if name != "_metadata"]
    for prefix in _prefixes(state, names):
        base.load_state_dict({name: state[prefix + name] for name in names})
        return base
    raise ValueError(f"{path} doesn't hold the weights of a {type(base).__name__} with these arguments")


def _prefixes(state: Mapping[str, Any], names: list[str]) -> list[str]:
    """What stands before the names of a network in the state of a module that has it as a part."""
    if not names:
        return [""]
    candidates = sorted({key.removesuffix(names[0]) for key in state if key.endswith(names[0])}, key=len)
    return [prefix for prefix in candidates if all(prefix + name in state for name in names)]
