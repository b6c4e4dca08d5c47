"""Weights of another training to hold the present ones against."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn


def load_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Return the state dict in a Lightning checkpoint, or in a file that holds nothing else.

    Raises:
        ValueError: there is no such file, or it holds no state dict that can be read without running its code.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"`reference` names no file: {os.fspath(path)!r}; give the path of a checkpoint")
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of a dozen kinds, by what the file holds
        raise ValueError(
            f"`reference` {os.fspath(path)!r} can't be read as tensors and plain numbers; write the weights alone by "
            "`torch.save(module.state_dict(), path)`"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(state, dict) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"`reference` {os.fspath(path)!r} holds no state dict")
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def copied_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of all that is in the state dict of a module, on the CPU."""
    return {
        name: value.detach().to("cpu", copy=True)
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor)
    }
