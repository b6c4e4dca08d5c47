"""A sweep as it is written down: W&B's sweep configuration, with a section of its own for the phase diagram."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lightning_regimes.sweep.parameter_space import Parameter
from lightning_regimes.sweep.seed_pair import SeedComparison, SeedPair, seed_pairs
from lightning_regimes.sweep.trial import CONFIGURATION, Trial

SECTION = "phase_diagram"
"""The key that W&B has no meaning for."""

_SECTION_KEYS = ("x", "y", "seed", "seed_pairs", "arguments", "random_state")
_SEED = "seed_everything"
_CONFIGURATION_OPTIONS = ("-c", "--config")
# A cell writes its records and one row; what a person would watch is left out.
_LOCAL_ARGUMENTS = (
    "--trainer.logger=false",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
)


@dataclass(frozen=True)
class SweepSpecification:
    """What a sweep runs, and how its cells are laid out.

    Attributes:
        path: the file it was read from.
        name: of the sweep.
        method: "grid" runs every combination, "random" draws ``num_trials`` of them.
        arguments: the command of a cell, from its subcommand on, without the parameters.
        parameters: in the order of the file.
        x: parameter along the first axis of the phase diagram, difficulty or load.
        y: parameter along the second axis, data or temperature; None for a diagram of one row.
        seed: parameter that repeats a cell, if there is one.
        num_trials: number of random trials.
        random_state: of the random trials.
        comparison: how the solutions of two seeds of a cell are compared; None for not at all.
    """

    path: Path
    name: str
    method: str
    arguments: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    x: str
    y: str | None
    seed: str | None
    num_trials: int = 0
    random_state: int = 0
    comparison: SeedComparison | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> SweepSpecification:
        """Read a sweep from its YAML file.

        ``command`` is what W&B's agent runs: ``lightning-regimes fit -c BASE [-c OVERLAY] [OPTIONS] ${args}``. Its
        configuration files are looked for from the current directory, then from the folders above the sweep's file.
        A parameter named ``config`` has such files as its values.

        Raises:
            FileNotFoundError: the file or a configuration file of the command isn't there.
            ValueError: the file isn't a sweep that can be run here; the message says what is wrong.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"the sweep {str(path)!r} does not exist; give -c the YAML file of a sweep.")
        content = _load(path)
        if not isinstance(content, Mapping) or not isinstance(content.get("parameters"), Mapping):
            raise ValueError(f"{str(path)!r} has no `parameters`; a sweep names its parameters and their values.")
        method = content.get("method")
        if method not in ("grid", "random"):
            raise ValueError(f"`method` must be 'grid' or 'random', got {method!r}.")
        num_trials = content.get("run_cap", 0)
        if method == "random" and not (isinstance(num_trials, int) and num_trials > 0):
            raise ValueError(f"`method: random` needs the number of trials as `run_cap`, got {num_trials!r}.")
        section = content.get(SECTION) or {}
        if unknown := set(section) - set(_SECTION_KEYS):
            raise ValueError(f"`{SECTION}` has no key {sorted(unknown)[0]!r}; known are {', '.join(_SECTION_KEYS)}.")
        parameters = tuple(Parameter.from_mapping(str(name), entry) for name, entry in content["parameters"].items())
        x, y, seed = _axes(section, parameters)
        local = tuple(section.get("arguments", _LOCAL_ARGUMENTS))
        return cls(
            path=path,
            name=str(content.get("name", path.stem)),
            method=method,
            arguments=(*_arguments(content.get("command"), path), *map(str, local)),
            parameters=parameters,
            x=x,
            y=y,
            seed=seed,
            num_trials=num_trials,
            random_state=int(section.get("random_state", 0)),
            comparison=_comparison(section, seed, parameters),
        )

    def trials(self) -> list[Trial]:
        """Return the cells, each once; the same file gives the same cells."""
        content = _content(self.arguments)
        found: dict[str, Trial] = {}
        for parameters in self._combinations():
            trial = Trial(parameters, self.arguments, content)
            if CONFIGURATION in parameters:
                file = str(_find(str(parameters[CONFIGURATION]), self.path))
                arguments = (*self.arguments, "-c", file)
                trial = Trial(parameters, arguments, _content(arguments))
            found.setdefault(trial.key, trial)
        return list(found.values())

    def seed_pairs(self) -> list[SeedPair]:
        """Return the comparisons of seeds, none where the sweep asks for none."""
        if self.comparison is None or self.seed is None:
            return []
        return seed_pairs(self.trials(), self.seed, self.comparison)

    def _combinations(self) -> list[dict[str, Any]]:
        names = [parameter.name for parameter in self.parameters]
        if self.method == "grid":
            grids = [parameter.grid() for parameter in self.parameters]
            return [dict(zip(names, values, strict=True)) for values in itertools.product(*grids)]
        draws = []
        for number in range(self.num_trials):
            generator = np.random.default_rng([self.random_state, number])
            draws.append({parameter.name: parameter.draw(generator) for parameter in self.parameters})
        return draws


def _axes(section: Mapping[str, Any], parameters: Sequence[Parameter]) -> tuple[str, str | None, str | None]:
    names = [parameter.name for parameter in parameters]
    for key in ("x", "y", "seed"):
        if (name := section.get(key)) is not None and name not in names:
            raise ValueError(f"`{SECTION}.{key}` must be one of the parameters {names}, got {name!r}.")
    seed = section.get("seed", _SEED if _SEED in names else None)
    named = [name for name in (section.get("x"), section.get("y"), seed) if name is not None]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise ValueError(f"`{SECTION}` needs different parameters as x, y and seed, got {twice!r} twice.")
    varied = [p.name for p in parameters if p.name != seed and len(p.values) != 1]
    x = section.get("x") or next((name for name in varied if name != section.get("y")), None)
    if x is None:
        raise ValueError("a phase diagram needs a parameter with several values besides the seed.")
    y = section.get("y") or next((name for name in varied if name != x), None)
    return x, y, seed


def _comparison(section: Mapping[str, Any], seed: str | None, parameters: Sequence[Parameter]) -> SeedComparison | None:
    if "seed_pairs" not in section:
        return None
    if not any(parameter.name == seed and len(parameter.values) > 1 for parameter in parameters):
        raise ValueError("`phase_diagram.seed_pairs` needs a `seed` with at least two values.")
    return SeedComparison.from_mapping(section["seed_pairs"] or {})


def _arguments(command: Any, path: Path) -> list[str]:
    if not isinstance(command, list) or not command:
        raise ValueError(
            "`command` must be a list such as [lightning-regimes, fit, -c, base.yaml, ${args}], the command of a cell."
        )
    words = [str(word) for word in command if str(word) not in ("${args}", "${env}")]
    if "fit" not in words:
        raise ValueError(f"`command` must contain the subcommand 'fit', got {words}.")
    words = words[words.index("fit") :]
    if macro := next((word for word in words if "${" in word), None):
        raise ValueError(f"`command` holds {macro!r}, which only W&B's agent can fill in; use ${{args}}.")
    return [
        word if name is None else word.removesuffix(name) + str(_find(name, path))
        for word, name in zip(words, _configuration_files(words), strict=True)
    ]


def _configuration_files(words: Sequence[str]) -> list[str | None]:
    """For each word of a command, the configuration file that it names, if it names one."""
    names: list[str | None] = []
    for before, word in zip(("", *words), words, strict=False):
        option, separator, value = word.partition("=")
        if before in _CONFIGURATION_OPTIONS:
            names.append(word)
        else:
            names.append(value if separator and option in _CONFIGURATION_OPTIONS else None)
    return names


def _find(name: str, path: Path) -> Path:
    for folder in (Path.cwd(), *path.resolve().parents):
        if (folder / name).is_file():
            return (folder / name).resolve()
    raise FileNotFoundError(f"the configuration file {name!r} of the sweep {str(path)!r} does not exist.")


def _content(arguments: Sequence[str]) -> str:
    """What the arguments say, with files by what they hold: comments and places don't matter."""
    parts = [
        word if name is None else _load(Path(name))
        for word, name in zip(arguments, _configuration_files(arguments), strict=True)
    ]
    return json.dumps(parts, sort_keys=True, default=str)


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{str(path)!r} is not valid YAML: {' '.join(str(error).split())}") from None
