"""One cell of a sweep: a command and the parameters that this cell gives it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Scalar = str | int | float | bool | None

CONFIGURATION = "config"
"""The parameter whose values are configuration files: a trial has its file among the arguments."""


@dataclass(frozen=True)
class Trial:
    """What one cell of a sweep runs, known by its content.

    Attributes:
        parameters: value of each swept parameter, by its name on the command line.
        arguments: the command without the parameters, configuration files by their paths.
        content: what the command rests on: the parsed configuration files and the other arguments.
    """

    parameters: Mapping[str, Any]
    arguments: tuple[str, ...] = ()
    content: str = ""

    @cached_property
    def key(self) -> str:
        """Hash of the content and the parameters, 16 hexadecimal digits: where files lie doesn't enter it."""
        text = json.dumps([self.content, self._options], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def command(self) -> list[str]:
        """The arguments of the command with the parameters, as W&B would append them."""
        return [*self.arguments, *(f"--{name}={_text(value)}" for name, value in self._options.items())]

    @property
    def name(self) -> str:
        """The parameters as people read them: ``beta = 30, num_interior = 200``."""
        return ", ".join(f"{name.rpartition('.')[2]} = {_text(value)}" for name, value in self.parameters.items())

    @property
    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in self.parameters.items() if name != CONFIGURATION}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
