"""Objects as plain data, so that checkpoints and loggers hold how a module was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any


def as_class_path(instance: Any) -> dict[str, Any] | None:
    """Return ``{"class_path": …, "init_args": …}`` of an object, from which jsonargparse makes it again.

    Args:
        instance: a dataclass, or an object whose ``arguments`` hold what it was made with.

    Returns:
        None where the object can't be described so, or was made with something other than numbers, strings, objects
        like itself, and sequences and mappings of these.
    """
    arguments: Any
    if is_dataclass(instance):
        arguments = {field.name: getattr(instance, field.name) for field in fields(instance) if field.init}
    else:
        arguments = getattr(instance, "arguments", None)
    if not isinstance(arguments, Mapping):
        return None
    try:
        plain = {name: _plain(value) for name, value in arguments.items()}
    except TypeError:
        return None
    kind = type(instance)
    return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": plain}


def as_fields(instance: Any) -> dict[str, Any] | None:
    """Return the fields of a dataclass instance, or None for None."""
    return None if instance is None else asdict(instance)


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    described = as_class_path(value)
    if described is not None:
        return described
    raise TypeError(f"{type(value).__name__} isn't plain data.")
