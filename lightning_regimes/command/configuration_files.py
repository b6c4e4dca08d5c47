"""The configuration files that the arguments name."""

from collections.abc import Iterator, Sequence
from pathlib import Path

_OPTIONS = ("-c", "--config")


def require_configurations(args: Sequence[str]) -> None:
    """Raise FileNotFoundError for a configuration file that is not there."""
    for name in _files(args):
        if name.endswith((".yaml", ".yml", ".json")) and "://" not in name and not Path(name).exists():
            raise FileNotFoundError(f"the configuration file {name!r} does not exist.")


def _files(args: Sequence[str]) -> Iterator[str]:
    for position, argument in enumerate(args):
        option, separator, value = argument.partition("=")
        if option in _OPTIONS and separator:
            yield value
        elif argument in _OPTIONS and position + 1 < len(args):
            yield args[position + 1]
