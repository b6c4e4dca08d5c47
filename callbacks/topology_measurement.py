"""The topology of a loss surface as it is recorded, beside that of the same surface on every second point."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.landscape import (
    LossSurface,
    MergeTree,
    PersistenceDiagram,
    bottleneck,
    merge_tree,
    persistence,
    smad,
    wasserstein,
)
from lightning_regimes.landscape.smad import Variant
from lightning_regimes.landscape.smad_history_figure import draw_smad_history
from lightning_regimes.landscape.topology_figure import draw_merge_tree, draw_persistence_diagram, draw_profile

# Beyond this relative difference from the grid with every second point, the grid decides what is seen.
_ALIASING = 0.3


class TopologyHistory:
    """What the earlier measurements of a training found: SMAD by step and the last diagram."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, dict[str, float]]] = []
        self.diagram: PersistenceDiagram | None = None

    def state_dict(self) -> dict[str, Any]:
        """The values by step, in plain numbers; the diagram is measured again."""
        return {"entries": [(step, dict(values)) for step, values in self.entries]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where the checkpoint was written."""
        self.entries = [(step, dict(values)) for step, values in state_dict["entries"]]


def measure_topology(
    surface: LossSurface, tree: MergeTree, variants: Sequence[Variant], history: TopologyHistory, *, step: int
) -> Measurement:
    """Return what there is to record, and append it to the history.

    Args:
        surface: the loss on a grid with its center.
        tree: of the whole grid.
        variants: of SMAD.
        history: of the training.
        step: at which the surface was measured.
    """
    half = merge_tree(surface.subsample(2).values)
    with warnings.catch_warnings():
        # That minima are walled in follows from points that are not finite, which the callback has told.
        warnings.simplefilter("ignore")
        return _measured(surface, tree, half, variants, history, step=step)


def _measured(
    surface: LossSurface,
    tree: MergeTree,
    half: MergeTree,
    variants: Sequence[Variant],
    history: TopologyHistory,
    *,
    step: int,
) -> Measurement:
    finite = surface.values[np.isfinite(surface.values)]
    diagram = persistence(surface.values, dims=tuple(range(min(surface.dim, 2))))
    lifetimes = np.diff(diagram.intervals[0], axis=1)
    scalars = {
        "landscape/num_minima": float(tree.num_minima),
        "landscape/num_minima_half": float(half.num_minima),
        "landscape/range": float(finite.max() - finite.min()),
        "landscape/persistence_max": float(lifetimes.max(initial=0.0)),
    }
    is_aliased = False
    for variant in variants:
        value, coarse = smad(tree, variant), smad(half, variant)
        scalars[f"landscape/smad_{variant}"] = value
        scalars[f"landscape/smad_{variant}_normalized"] = smad(tree, variant, normalize=True)
        scalars[f"landscape/smad_{variant}_half"] = coarse
        # The contour tree's value measures the depth of the box itself where there is one basin.
        is_aliased |= variant != "contour_tree" and _differ(value, coarse)
    scalars["landscape/aliased"] = float(is_aliased)
    if history.diagram is not None:
        scalars["landscape/bottleneck"] = bottleneck(history.diagram, diagram)
        scalars["landscape/wasserstein"] = wasserstein(history.diagram, diagram)
    history.diagram = diagram
    history.entries.append((step, {key: value for key, value in scalars.items() if "smad" in key or "aliased" in key}))
    arrays = {"landscape/persistence_pairs": diagram.intervals[0]}
    if 1 in diagram.intervals:
        arrays["landscape/persistence_pairs_1"] = diagram.intervals[1]
    entries = list(history.entries)
    return Measurement(
        scalars=scalars,
        arrays=arrays,
        figures={
            "landscape/persistence_diagram": lambda: draw_persistence_diagram(diagram),
            "landscape/merge_tree": lambda: draw_merge_tree(tree),
            "landscape/profile": lambda: draw_profile(tree),
            "landscape/smad_history": lambda: draw_smad_history(entries),
        },
    )


def _differ(value: float, coarse: float) -> bool:
    # Infinite where no minimum has a pass that is not behind a wall.
    return value != coarse and not abs(value - coarse) <= _ALIASING * max(abs(value), abs(coarse))
