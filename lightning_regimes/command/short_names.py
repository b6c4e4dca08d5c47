"""Bare class names in configurations: import what the arguments name, and nothing else."""

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

_PACKAGES = ("modules", "datamodules", "callbacks", "graph", "optim", "pde", "networks", "metrics")


def import_named_classes(args: Sequence[str]) -> None:
    """Import every class of this package that the arguments or their YAML files mention by its bare name.

    jsonargparse resolves ``class_path: PINN`` among the subclasses that exist in the process, so a class has to be
    imported before it can be named; importing all of them would load every heavy library for any run.
    """
    import_classes(list(_mentioned(args)))


def import_classes(configuration: Any) -> None:
    """Import every class of this package that a parsed configuration mentions by its bare name."""
    mentioned = set(_strings(configuration, seen=frozenset()))
    for package, names in short_names().items():
        for name in mentioned.intersection(names):
            getattr(importlib.import_module(package), name)


def short_names() -> dict[str, list[str]]:
    """The public names of each package that configurations draw from, without importing what they stand for."""
    packages = [f"lightning_regimes.{package}" for package in _PACKAGES]
    return {package: list(importlib.import_module(package).__all__) for package in packages}


def _mentioned(args: Sequence[str]) -> Iterator[Any]:
    for argument in args:
        value = argument.partition("=")[2] if argument.startswith("-") else argument
        try:
            yield yaml.safe_load(value)
        except yaml.YAMLError:
            continue


def _strings(value: Any, seen: frozenset[Path]) -> Iterator[str]:
    if isinstance(value, dict):
        for entry in value.values():
            yield from _strings(entry, seen)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings(entry, seen)
    elif isinstance(value, str):
        yield value
        path = Path(value)
        if path.suffix in (".yaml", ".yml") and path not in seen and path.is_file():
            try:
                content = yaml.safe_load(path.read_text())
            except (OSError, yaml.YAMLError):
                return  # the parser of the command reads it again and says what is wrong
            yield from _strings(content, seen | {path})
