"""The values that a parameter of a sweep takes, in the words of W&B's sweep configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_KEYS = {"value", "values", "probabilities", "distribution", "min", "max", "q", "mu", "sigma"}
_EXPONENT = re.compile(r"[-+]?\d+[eE][-+]?\d+")
_BOUNDED = ("int_uniform", "uniform", "q_uniform", "log_uniform", "log_uniform_values", "inv_log_uniform_values")


@dataclass(frozen=True)
class Parameter:
    """One parameter: a constant, a list of values, or a distribution.

    Attributes:
        name: its option on the command line, without dashes.
        distribution: by W&B's names.
        values: of a constant or categorical parameter.
        probabilities: of the values; equal if empty.
        minimum: lower bound of a distribution; an exponent of e for "log_uniform", as W&B has it.
        maximum: upper bound, likewise.
        step: spacing of the values of "q_uniform".
        mean: of "normal", and of the logarithm for "log_normal".
        deviation: standard deviation, likewise.
    """

    name: str
    distribution: str
    values: tuple[Any, ...] = ()
    probabilities: tuple[float, ...] = ()
    minimum: float = math.nan
    maximum: float = math.nan
    step: float = 1.0
    mean: float = 0.0
    deviation: float = 1.0

    @classmethod
    def from_mapping(cls, name: str, entry: Any) -> Parameter:
        """Read the entry of a parameter.

        Raises:
            ValueError: the entry is not one of the forms that W&B documents, or one that isn't supported here.
        """
        if not isinstance(entry, Mapping):
            raise ValueError(f"parameter {name!r} must be a mapping such as {{values: [1, 2]}}, got {entry!r}.")
        if "parameters" in entry:
            raise ValueError(f"parameter {name!r} is nested; write its entries as '{name}.<option>' instead.")
        if unknown := set(entry) - _KEYS:
            raise ValueError(f"parameter {name!r} has no key {sorted(unknown)[0]!r}; known are {sorted(_KEYS)}.")
        if "value" in entry:
            return cls(name, "constant", values=(_number(entry["value"]),))
        if "values" in entry:
            return cls._categorical(name, entry)
        distribution = entry.get("distribution") or _default_distribution(name, entry)
        if distribution in ("normal", "log_normal"):
            return cls(name, distribution, mean=float(entry.get("mu", 0)), deviation=float(entry.get("sigma", 1)))
        if distribution not in _BOUNDED:
            raise ValueError(f"parameter {name!r} has the distribution {distribution!r}; known are {_BOUNDED}.")
        low, high = (_bound(name, entry, key) for key in ("min", "max"))
        if not low < high:
            raise ValueError(f"parameter {name!r} needs min < max, got {low:g} and {high:g}.")
        if distribution.endswith("_values") and low <= 0:
            raise ValueError(f"parameter {name!r} is drawn on a logarithmic scale and needs min > 0, got {low:g}.")
        step = float(entry.get("q", 1))
        if not step > 0:
            raise ValueError(f"parameter {name!r} needs q > 0, got {step:g}.")
        return cls(name, distribution, minimum=low, maximum=high, step=step)

    @classmethod
    def _categorical(cls, name: str, entry: Mapping[str, Any]) -> Parameter:
        values = entry["values"]
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise ValueError(f"parameter {name!r} needs a list of values, got {values!r}.")
        probabilities = tuple(float(p) for p in entry.get("probabilities", ()))
        if probabilities and (len(probabilities) != len(values) or not math.isclose(sum(probabilities), 1)):
            raise ValueError(f"parameter {name!r} needs one probability a value, with the sum 1, got {probabilities}.")
        return cls(name, "categorical", values=tuple(map(_number, values)), probabilities=probabilities)

    def grid(self) -> tuple[Any, ...]:
        """Return every value, for a grid.

        Raises:
            ValueError: the parameter is continuous.
        """
        if self.values:
            return self.values
        if self.distribution == "int_uniform":
            return tuple(range(math.ceil(self.minimum), math.floor(self.maximum) + 1))
        if self.distribution == "q_uniform":
            low, high = math.ceil(self.minimum / self.step), math.floor(self.maximum / self.step)
            return tuple(_rounded(number * self.step) for number in range(low, high + 1))
        raise ValueError(f"parameter {self.name!r} is continuous; give it `values` for `method: grid`.")

    def draw(self, generator: np.random.Generator) -> Any:
        """Return one value, drawn from the distribution."""
        low, high = self.minimum, self.maximum
        match self.distribution:
            case "constant":
                return self.values[0]
            case "categorical":
                return self.values[int(generator.choice(len(self.values), p=self.probabilities or None))]
            case "int_uniform":
                return int(generator.integers(math.ceil(low), math.floor(high), endpoint=True))
            case "q_uniform":
                return _rounded(round(generator.uniform(low, high) / self.step) * self.step)
            case "log_uniform":
                return float(np.exp(generator.uniform(low, high)))
            case "log_uniform_values":
                return float(np.exp(generator.uniform(math.log(low), math.log(high))))
            case "inv_log_uniform_values":
                return float(1 / np.exp(generator.uniform(-math.log(high), -math.log(low))))
            case "normal":
                return float(generator.normal(self.mean, self.deviation))
            case "log_normal":
                return float(np.exp(generator.normal(self.mean, self.deviation)))
        return float(generator.uniform(low, high))


def _default_distribution(name: str, entry: Mapping[str, Any]) -> str:
    if "min" not in entry or "max" not in entry:
        raise ValueError(f"parameter {name!r} needs `value`, `values`, or `min` and `max`, got {dict(entry)}.")
    return "int_uniform" if all(isinstance(entry[key], int) for key in ("min", "max")) else "uniform"


def _number(value: Any) -> Any:
    # YAML 1.1 reads 1e-3, which has no point, as text.
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


def _bound(name: str, entry: Mapping[str, Any], key: str) -> float:
    try:
        return float(entry[key])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"parameter {name!r} needs a number as {key!r}, got {entry.get(key)!r}.") from None


def _rounded(value: float) -> int | float:
    # Multiples of 0.1 are to be read as 0.3, not 0.30000000000000004.
    value = float(f"{value:.12g}")
    return int(value) if value.is_integer() else value
