import itertools
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DATA = Path(__file__).parent / "data"


@dataclass
class Component:
    """A component of a sublevel set: its lowest value, and whether it has met no other one yet."""

    low: float
    is_bare: bool = True


@dataclass
class LevelSweep:
    """Heights of minima, and of the saddles that they first meet or end at, sorted; infinite where there is none."""

    gaps: list[tuple[float, float]]
    pairs: list[tuple[float, float]]


def sweep(values: np.ndarray, *, diagonal: bool = False) -> LevelSweep:
    """Raise the level through the distinct values and watch all components, without an order among equal values."""
    offsets = [
        offset
        for offset in itertools.product((-1, 0, 1), repeat=values.ndim)
        if any(offset) and (diagonal or sum(map(abs, offset)) == 1)
    ]
    heights = np.where(np.isnan(values), np.inf, values)
    root: dict[tuple[int, ...], tuple[int, ...]] = {}
    components: dict[tuple[int, ...], Component] = {}

    def find(point):
        while root[point] != point:
            root[point] = point = root[root[point]]
        return point

    def neighbours(point):
        moved = (tuple(axis + step for axis, step in zip(point, offset, strict=True)) for offset in offsets)
        return [neighbour for neighbour in moved if neighbour in root]

    gaps, pairs = [], []
    added_at = defaultdict(list)
    for point in np.ndindex(heights.shape):
        added_at[float(heights[point])].append(point)
    for level in sorted(set(added_at) - {np.inf}):
        added = added_at[level]
        met_below = [(point, find(neighbour)) for point in added for neighbour in neighbours(point)]
        root.update((point, point) for point in added)
        for point in added:
            for neighbour in neighbours(point):
                root[find(neighbour)] = find(point)
        joined: dict[tuple[int, ...], set[tuple[int, ...]]] = {find(point): set() for point in added}
        for point, old in met_below:
            joined[find(point)].add(old)
        for new, old in joined.items():
            met = sorted((components.pop(root_before) for root_before in old), key=lambda component: component.low)
            if len(met) > 1:
                gaps += [(component.low, level) for component in met if component.is_bare]
                pairs += [(component.low, level) for component in met[1:]]
            low = met[0].low if met else level
            components[new] = Component(low, is_bare=not met or (len(met) == 1 and met[0].is_bare))
    gaps += [(component.low, np.inf) for component in components.values() if component.is_bare]
    return LevelSweep(sorted(gaps), sorted(pairs))


@pytest.fixture
def level_sweep() -> Callable[..., LevelSweep]:
    """The merge tree by brute force."""
    return sweep


@pytest.fixture(params=["interp_1d", "mlp_2d", "noisy_2d", "plateau_2d"])
def reference(request: pytest.FixtureRequest) -> tuple[str, np.ndarray, dict[str, Any]]:
    """A loss surface of a trained network and what a level sweep, gudhi and Landscaper found on it."""
    return (
        request.param,
        np.load(DATA / f"{request.param}.npy"),
        json.loads((DATA / "reference.json").read_text())[request.param],
    )


@pytest.fixture
def rough_grids() -> Callable[[int], list[np.ndarray]]:
    """Random grids with 1 to 4 axes of unequal lengths, smooth, rough, with ties and with walls."""

    def grids(seed: int, count: int = 150) -> list[np.ndarray]:
        generator = np.random.default_rng(seed)
        result = []
        for index in range(count):
            num_axes = 1 + index % 4
            longest = (40, 9, 5, 4)[num_axes - 1]
            values = generator.standard_normal(tuple(generator.integers(1, longest + 1, num_axes)))
            kind = index // 4 % 4
            if kind == 1:
                values = np.round(values)
            elif kind == 2:
                values = np.clip(values, -0.5, 0.5)
            elif kind == 3:
                values[generator.random(values.shape) < 0.3] = generator.choice([np.nan, np.inf])
                values.flat[generator.integers(values.size)] = -1.0
            result.append(values)
        return result

    return grids
