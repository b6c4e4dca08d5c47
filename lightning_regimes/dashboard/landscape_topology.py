"""The topology of the loss around the weights: births and deaths, merging basins, and SMAD over the run."""

from __future__ import annotations

import numpy as np

from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.recorded_surface import figure_colours, recorded_surface
from lightning_regimes.dashboard.run_view import RunView

_VARIANTS = ("merge_tree", "persistence", "contour_tree")
_SIZE = (3.4, 3.0)
_MAX_MINIMA = 40


def landscape_topology(run: RunView) -> Panel | None:
    """Draw the persistence diagram, the merge tree and the topological profile of the last surface."""
    record = run.arrays("landscape/values", "landscape/persistence_pairs")
    surface = recorded_surface(record) if record is not None else None
    if record is None or surface is None:
        return None
    from lightning_regimes.landscape.merge_tree import merge_tree
    from lightning_regimes.landscape.persistence import PersistenceDiagram
    from lightning_regimes.landscape.surface_labels import counted
    from lightning_regimes.landscape.topology_figure import draw_merge_tree, draw_persistence_diagram, draw_profile
    from lightning_regimes.landscape.tree_simplification import most_persistent

    tree = merge_tree(surface.values)
    intervals = {0: np.reshape(record.arrays["landscape/persistence_pairs"], (-1, 2))}
    if "landscape/persistence_pairs_1" in record.arrays:
        intervals[1] = np.reshape(record.arrays["landscape/persistence_pairs_1"], (-1, 2))
    endless = tree.minima[~np.isin(tree.minima, tree.pairs[:, 0])]
    diagram = PersistenceDiagram(intervals=intervals, essential={0: np.sort(tree.values.ravel()[endless])})
    colours = figure_colours()
    deepest = tree.persistences.max(initial=0.0)
    shown = most_persistent(tree, _MAX_MINIMA)
    largest = shown.volumes.max() / shown.volumes.sum()
    minima = counted(tree.num_minima, "minimum", "minima")
    if shown.num_minima < tree.num_minima:
        minima = f"the {shown.num_minima} most persistent of {minima}"
    components = counted(len(intervals[0]), "component", "components")
    loops = f" and {counted(len(intervals[1]), 'loop', 'loops')}" if 1 in intervals else ""
    return Panel(
        title="Minima and their basins",
        reading=(
            "What lies far above the diagonal is a deep minimum, or a high ring; what lies near it may be noise. In "
            "the tree, leaves are minima and branches meet where the water would flow over; the profile shows the same "
            "as nested valleys, as wide as they hold points of the grid."
        ),
        pictures=(
            (
                draw_persistence_diagram(diagram, colours=colours, size=_SIZE),
                f"Persistence diagram at step {record.step}: {components}{loops} with an end; the most persistent "
                f"component lasts {short(float(deepest))}.",
            ),
            (
                draw_merge_tree(tree, max_minima=_MAX_MINIMA, colours=colours, size=_SIZE),
                f"Merge tree with {minima} between {short(float(tree.heights.min()))} and "
                f"{short(float(surface.values[np.isfinite(surface.values)].max()))}.",
            ),
            (
                draw_profile(tree, max_minima=_MAX_MINIMA, colours=colours, size=_SIZE),
                f"Topological profile with {minima}; the largest basin holds {100 * largest:.0f} % of the grid.",
            ),
        ),
    )


def smad_history(run: RunView) -> Panel | None:
    """Draw SMAD over the run, beside its value on every second point of the grid."""
    keys = [f"landscape/smad_{variant}" for variant in _VARIANTS]
    found = {record.step: record.scalars for record in run.records if any(key in record.scalars for key in keys)}
    if not found:
        return None
    from lightning_regimes.landscape.smad_history_figure import draw_smad_history
    from lightning_regimes.landscape.surface_labels import counted

    entries = sorted(found.items())
    last_step, last = entries[-1]
    values = ", ".join(
        f"{short(last[key])} ({key.rpartition('smad_')[2].replace('_', ' ')})" for key in keys if key in last
    )
    aliased = [step for step, scalars in entries if scalars.get("landscape/aliased") == 1]
    at_steps = ", ".join(str(step) for step in aliased[:10]) + (", …" if len(aliased) > 10 else "")
    return Panel(
        title="Depth of the minima",
        reading=(
            "SMAD is how deep the minima lie below their passes, on average; 0 is a single basin. The variants measure "
            "different things and are not to be compared with each other. Where the dashed value on every second point "
            "goes elsewhere, the grid is too coarse to tell: a cross marks these steps."
        ),
        pictures=(
            (
                draw_smad_history(entries, colours=figure_colours(), size=(4.3, 3.2)),
                f"SMAD at {counted(len(entries), 'step', 'steps')}; at step {last_step} it is {values}."
                + (f" The grid decides at steps {at_steps}." if aliased else ""),
            ),
        ),
    )
