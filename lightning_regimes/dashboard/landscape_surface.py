"""The loss around the weights: on a grid, on the way to another solution; and how similar the layers are to others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.recorded_surface import figure_colours, recorded_surface
from lightning_regimes.dashboard.run_view import RunView
from lightning_regimes.recording import Record

if TYPE_CHECKING:
    from lightning_regimes.landscape.surface import LossSurface

# More would not be read.
_MAX_LAYERS = 40


def landscape_surface(run: RunView) -> Panel | None:
    """Draw the last surface: a line on one axis, else contours and the surface on the first two."""
    record = run.arrays("landscape/values", "landscape/axis_1")
    surface = recorded_surface(record) if record is not None else None
    if record is None or surface is None or (surface.dim > 2 and surface.center is None):
        return None
    from lightning_regimes.landscape.surface_figure import draw_contour, draw_line, draw_surface

    shown = surface if surface.dim <= 2 else surface.plane(0, 1)
    if shown.num_nonfinite == shown.num_points:
        return None
    text = _description(shown, record)
    colours = figure_colours()
    if shown.dim == 1:
        pictures: tuple[tuple[Figure, str], ...] = ((draw_line(shown, colours=colours, size=(4.3, 2.8)), text),)
    else:
        trajectory = record.arrays.get("landscape/trajectory")
        steps = record.arrays.get("landscape/trajectory_steps")
        contour = draw_contour(
            shown,
            trajectory=trajectory,
            steps=None if steps is None else np.asarray(steps).tolist(),
            colours=colours,
            size=(4.3, 4.4),
        )
        pictures = (
            (contour, text),
            (
                draw_surface(shown, colours=colours, size=(4.3, 3.4)),
                f"The same in three dimensions, at step {record.step}.",
            ),
        )
    return Panel(
        title="Loss around the weights",
        reading=(
            "Each point of the grid is one evaluation of the training loss; what lies between is drawn straight. "
            "Triangles are the minima of the grid, thin lines part their basins. The picture depends on the axes and "
            f"on how far it reaches{_path_share(record)}."
        ),
        pictures=pictures,
    )


def connecting_path(run: RunView) -> Panel | None:
    """Draw the loss on the straight line to another solution, and on the curve that was trained."""
    record = run.arrays("connectivity/positions", "connectivity/losses")
    if record is None:
        return None
    positions, losses = (np.asarray(record.arrays[f"connectivity/{name}"]) for name in ("positions", "losses"))
    curve = record.arrays.get("connectivity/curve_losses")
    paths = {"straight line": losses}
    if curve is not None:
        paths[f"{record.context.get('path', 'trained')} curve"] = np.asarray(curve)
    from lightning_regimes.landscape.path_figure import draw_path

    label = "from these weights (0) to the reference (1)"
    figure = draw_path(positions, paths, label=label, colours=figure_colours(), size=(4.3, 2.8))
    text = f"Loss at {len(positions)} points of the way to the reference at step {record.step}."
    for key, said in (
        ("connectivity/barrier", " The barrier on the straight line is {}."),
        ("connectivity/mode_connectivity", " The mode connectivity is {}."),
    ):
        if key in record.scalars:
            text += said.format(short(record.scalars[key]))
    return Panel(
        title="Way to another solution",
        reading=(
            "Where the line stays at the mean of its ends, both solutions lie in one valley. A hill on the line that "
            "the curve goes around says that they are connected all the same; one that stays says that they are not. "
            "A path below its ends says that these are under-trained."
        ),
        pictures=((figure, text),),
    )


def layer_similarity(run: RunView) -> Panel | None:
    """Draw the alignment of each layer with the same layer of the reference, or of all pairs."""
    record = run.arrays("similarity/cka")
    if record is None:
        return None
    values = np.asarray(record.arrays["similarity/cka"], dtype=np.float64)
    if values.ndim != 1 or not values.size:
        return None
    names = [str(name) for name in record.context.get("layers", ())]
    names = names if len(names) == values.size else [str(index + 1) for index in range(values.size)]
    from lightning_regimes.landscape.cka_result import CKAResult
    from lightning_regimes.landscape.similarity_figure import draw_similarity

    result = CKAResult(values, tuple(names), tuple(names), "matching", int(record.context.get("num_samples", 0)))
    figure = draw_similarity(result, max_layers=_MAX_LAYERS, colours=figure_colours(), width=4.3)
    finite = [(value, name) for value, name in zip(values.tolist(), names, strict=True) if math.isfinite(value)]
    text = f"Centred kernel alignment of {values.size} layers with the reference at step {record.step}"
    if finite:
        (low, low_name), (high, high_name) = min(finite), max(finite)
        text += f": from {low:.3f} ({low_name}) to {high:.3f} ({high_name})"
    left_out = f" The first {_MAX_LAYERS} of {values.size} layers are shown." if values.size > _MAX_LAYERS else ""
    return Panel(
        title="Similarity of the layers",
        reading=(
            "At 1, a layer tells the samples apart as the same layer of the reference does, up to rotation and scale; "
            f"at 0 the two have nothing in common.{left_out}"
        ),
        pictures=((figure, f"{text}."),),
    )


def _description(surface: LossSurface, record: Record) -> str:
    from lightning_regimes.landscape.merge_tree import merge_tree
    from lightning_regimes.landscape.surface_labels import axis_label, counted

    names = " and ".join(axis_label(surface, index) for index in range(surface.dim))
    finite = surface.values[np.isfinite(surface.values)]
    reach = "; ".join(f"{short(float(axis[0]))} to {short(float(axis[-1]))}" for axis in surface.axes)
    minima = counted(merge_tree(surface.values).num_minima, "minimum", "minima")
    size = " × ".join(str(length) for length in surface.values.shape)
    center = f", {short(surface.center_loss)} at the weights" if math.isfinite(surface.center_loss) else ""
    missing = f" It is not finite at {counted(surface.num_nonfinite, 'point', 'points')}."
    return (
        f"Loss over {names} ({reach}) at step {record.step}: between {short(float(finite.min()))} and "
        f"{short(float(finite.max()))}{center}, with {minima} on the grid of {size} points."
        f"{missing if surface.num_nonfinite else ''}"
    )


def _path_share(record: Record) -> str:
    share = record.context.get("trajectory_share")
    if "landscape/trajectory" not in record.arrays or not isinstance(share, int | float):
        return ""
    return f"; {100 * share:.0f} % of the squared way of the training lies in this plane, the rest is not seen"
