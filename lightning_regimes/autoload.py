"""Diagnostics in any Trainer without a line of code: ``LIGHTNING_REGIMES=RegimeDetection python train.py``.

Lightning calls :func:`callbacks` whenever a Trainer is built, through the entry points ``callbacks_factory`` of both
its namespaces. This module therefore imports nothing until the environment variable asks for something.
"""

import functools
import os
import warnings
from pathlib import Path
from typing import Any

VARIABLE = "LIGHTNING_REGIMES"


def callbacks() -> list[Any]:
    """Build the callbacks that the environment variable ``LIGHTNING_REGIMES`` names; none where it is unset or empty.

    It holds either names separated by commas, ``HessianSpectrum,RegimeDetection``, or the path of a YAML file with a
    list of ``class_path`` and ``init_args`` under ``callbacks``, or under ``trainer`` as in a LightningCLI overlay.
    What cannot be built is warned about; a training never fails because of it.
    """
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return []
    try:
        return _build(_entries(value))
    except (Exception, SystemExit) as error:
        from lightning_regimes.callbacks import __all__ as known
        from lightning_regimes.command.configuration_errors import explain

        text = explain(str(error)).removeprefix("callbacks: ")
        warnings.warn(f"{VARIABLE}={value!r} adds no callbacks: {text} There are {', '.join(known)}.", stacklevel=2)
        return []


def __getattr__(name: str) -> Any:
    # A process that Lightning spawns unpickles the callbacks' classes by their names in this module.
    from lightning_regimes import callbacks as package

    if not name.startswith("_") or name[1:] not in package.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _autoloaded(getattr(package, name[1:]))


@functools.cache
def _autoloaded(callback: type[Any]) -> type[Any]:
    """The same callback with a state of its own in checkpoints, so that the user may have another one of its class."""

    def state_key(self: Any) -> str:
        return f"{VARIABLE}:{super(autoloaded, self).state_key}"

    autoloaded: type[Any] = type(
        f"_{callback.__name__}",  # private, so that the bare name still means one class in a configuration
        (callback,),
        {"__module__": __name__, "__doc__": callback.__doc__, "state_key": property(state_key)},
    )
    return autoloaded


def _entries(value: str) -> list[Any]:
    path = Path(value)
    if path.suffix not in (".yaml", ".yml"):
        return [{"class_path": name.strip()} for name in value.split(",") if name.strip()]
    import yaml

    content = yaml.safe_load(path.read_text()) or {}
    for section in (content, content.get("trainer") or {}):
        for key in ("callbacks", "callbacks+"):
            if entries := section.get(key):
                return entries if isinstance(entries, list) else [entries]
    raise ValueError("the file has no list under 'callbacks'.")


def _build(entries: list[Any]) -> list[Any]:
    from jsonargparse import ArgumentParser
    from lightning.pytorch import Callback

    from lightning_regimes.command.short_names import import_classes

    import_classes(entries)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--callbacks", type=list[Callback])
    config = parser.parse_object({"callbacks": entries})
    for entry in config.callbacks:
        package, _, name = entry.class_path.rpartition(".")
        if package.startswith("lightning_regimes.callbacks"):
            entry.class_path = f"{__name__}._{name}"
            if entry.init_args.get("on_error") == "early":  # the script did not ask to be checked
                entry.init_args.on_error = "warn"
    return list(parser.instantiate(config).callbacks)
