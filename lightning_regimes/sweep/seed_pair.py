"""Two runs of a cell that differ in their seed only, and what their solutions are compared by."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from lightning_regimes.sweep.trial import Trial

PathKind = Literal["linear", "bezier", "polygonal"]


@dataclass(frozen=True, kw_only=True)
class SeedComparison:
    """How the solutions of two seeds are compared, after both were trained.

    Attributes:
        path: ``"bezier"`` or ``"polygonal"`` trains a curve between the two; ``"linear"`` looks at the line alone.
        steps: of the curve's optimizer.
        points: of the path at which the loss is evaluated.
        num_batches: how many of the first training batches loss and representations are taken from.

    Raises:
        ValueError: an option is out of range.
    """

    path: PathKind = "bezier"
    steps: int = 300
    points: int = 21
    num_batches: int = 4

    def __post_init__(self) -> None:
        if self.path not in get_args(PathKind):
            raise ValueError(f"`path` of seed pairs is one of {', '.join(get_args(PathKind))}, got {self.path!r}.")
        for name, smallest in (("steps", 1), ("points", 3), ("num_batches", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < smallest:
                raise ValueError(f"`{name}` of seed pairs is a whole number from {smallest} on, got {value!r}.")

    @classmethod
    def from_mapping(cls, entry: Mapping[str, Any]) -> SeedComparison:
        """Read it from a YAML file.

        Raises:
            ValueError: an option is unknown or out of range.
        """
        known = cls.__dataclass_fields__
        if unknown := set(entry) - set(known):
            raise ValueError(f"`seed_pairs` has no option {sorted(unknown)[0]!r}; known are {', '.join(known)}.")
        return cls(**entry)


@dataclass(frozen=True, kw_only=True)
class SeedPair(Trial):
    """A comparison as something that an engine runs; its key is that of both trials and the options together.

    Attributes:
        first: one run.
        second: the other one.
        comparison: how they are compared.
    """

    first: Trial
    second: Trial
    comparison: SeedComparison


def seed_pairs(trials: Sequence[Trial], seed: str, comparison: SeedComparison) -> list[SeedPair]:
    """Return all pairs of trials that differ in nothing but the seed.

    Args:
        trials: of a sweep.
        seed: name of the parameter that repeats a cell.
        comparison: how they are to be compared.
    """
    cells: dict[str, list[Trial]] = {}
    for trial in trials:
        others = {name: value for name, value in trial.parameters.items() if name != seed}
        cells.setdefault(json.dumps(others, sort_keys=True, default=str), []).append(trial)
    return [
        SeedPair(
            parameters={**first.parameters, seed: [first.parameters[seed], second.parameters[seed]]},
            arguments=first.arguments,
            content=json.dumps(["seed pair", first.key, second.key, asdict(comparison)]),
            first=first,
            second=second,
            comparison=comparison,
        )
        for runs in cells.values()
        for first, second in itertools.combinations(runs, 2)
    ]
