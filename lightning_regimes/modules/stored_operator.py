"""Networks of neuraloperator in configuration files and checkpoints."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from lightning_regimes.modules.stored_configuration import as_class_path


def as_operator_class_path(operator: nn.Module) -> dict[str, Any] | None:
    """Return ``{"class_path": …, "init_args": …}`` of a network that knows what it was made with, otherwise None.

    That is one with ``arguments``, or a model of neuraloperator, which keeps them in a form of its own.
    """
    described = as_class_path(operator)
    given = getattr(operator, "_init_kwargs", None)
    if described is not None or not isinstance(given, Mapping):
        return described
    kind = type(operator)
    defaults = {name: entry.default for name, entry in inspect.signature(kind).parameters.items()}
    init_args: dict[str, Any] = {}
    names = [name for name in defaults if name not in ("self", "args", "kwargs")]
    for name, value in [*zip(names, given.get("args", ()), strict=False), *given.items()]:
        if name in ("args", "_name", "_version") or (name in defaults and value is defaults[name]):
            continue
        if not _is_plain(value):
            return None
        init_args[name] = list(value) if isinstance(value, tuple) else value
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": init_args}


def build_operator(operator: nn.Module | Mapping[str, Any]) -> nn.Module:
    """Return a network, made from ``{"class_path": …, "init_args": …}`` where it's described so.

    Parsers of configuration files leave that to this function, since models of neuraloperator have functions and
    classes as default values of arguments whose type is a module, which no parser accepts. Class paths are whole.

    Raises:
        ValueError: there is no such class, or it doesn't take the arguments.
    """
    built = operator if isinstance(operator, nn.Module) else _built(operator)
    if not isinstance(built, nn.Module):
        raise ValueError(f"a network is a torch.nn.Module or has a `class_path` and `init_args`, got {operator!r}")
    return built


def _built(value: Any) -> Any:
    """Make the objects that a configuration describes, the inner ones first."""
    if isinstance(value, list | tuple):
        return [_built(entry) for entry in value]
    if not isinstance(value, Mapping):
        return value
    if "class_path" not in value:
        return {name: _built(entry) for name, entry in value.items()}
    class_path, init_args = str(value["class_path"]), _built(dict(value.get("init_args") or {}))
    module, _, name = class_path.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no class {class_path!r}: {error}") from error
    try:
        return kind(**init_args)
    except TypeError as error:
        raise ValueError(f"{class_path} doesn't take the arguments {init_args}: {error}") from error


def leave_out_operator_metadata(module: nn.Module) -> None:
    """Keep what neuraloperator adds to a state dict out of that of a module which contains one of its models.

    The entry has no prefix and holds functions, so that the state could neither be loaded strictly nor read with
    ``weights_only``.
    """
    module.register_state_dict_post_hook(_without_metadata)


def _without_metadata(module: nn.Module, state_dict: dict[str, Any], prefix: str, local_metadata: Any) -> None:
    state_dict.pop("_metadata", None)


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(entry) for entry in value)
    return value is None or isinstance(value, bool | int | float | str)
