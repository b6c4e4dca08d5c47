"""The solution that was learned, beside the reference and their difference."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure

from lightning_regimes.dashboard.palette import ACCENT, CONTRAST
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView


def field_maps(run: RunView) -> Panel | None:
    """Draw the last recorded field on its axes; nothing where it has more than two."""
    record = run.arrays("field/axis_0", "field/prediction")
    if record is None:
        return None
    first, prediction = record.arrays["field/axis_0"], record.arrays["field/prediction"]
    reference = record.arrays.get("field/reference")
    names = list(record.context.get("axis_names", ("axis 0", "axis 1")))
    error = record.scalars.get("field/rel_l2")
    score = f" The relative error is {error:.2g}." if error is not None else ""
    if prediction.ndim == 1:
        picture = _line(first, prediction, reference, names[0])
        return Panel(
            title="Solution",
            reading=f"Where the two curves part, the network is wrong.{score}",
            pictures=((picture, f"Learned solution over {names[0]}.{score}"),),
        )
    if prediction.ndim != 2 or "field/axis_1" not in record.arrays:
        return None
    second = record.arrays["field/axis_1"]

    def draw(title: str, values: np.ndarray, colours: str, low: float, high: float) -> Figure:
        return _map(title, (first, second), names, values, colours, low, high)

    estimate = record.arrays.get("field/estimated_error")
    where = "An error that is large in one region only says where points or weight are missing; one that is large "
    where += f"everywhere says more.{score}"
    if reference is not None:
        reading = f"Reference and prediction share one colour scale; the error has its own. {where}"
    elif estimate is not None:
        reading = (
            "The solution is not known; the error is estimated as the change with which the prediction would satisfy "
            f"the equation where it was not trained. {where}"
        )
    else:
        reading = "The solution is not known, and there is no estimate of the error."
    return Panel(title="Solution", reading=reading, pictures=_maps(draw, prediction, reference, estimate))


def _maps(
    draw: Callable[[str, np.ndarray, str, float, float], Figure],
    prediction: np.ndarray,
    reference: np.ndarray | None,
    estimated_error: np.ndarray | None,
) -> tuple[tuple[Figure, str], ...]:
    shown = prediction if reference is None else reference
    low, high = float(np.nanmin(shown)), float(np.nanmax(shown))
    learned = draw("prediction", prediction, "viridis", low, high), f"Learned solution, {_range(prediction)}."
    if reference is not None:
        error = np.abs(prediction - reference)
        return (
            (draw("reference", reference, "viridis", low, high), f"Reference solution, {_range(reference)}."),
            learned,
            (draw("absolute error", error, "magma", 0.0, float(np.nanmax(error))), f"Absolute error, {_range(error)}."),
        )
    if estimated_error is None:
        return (learned,)
    error = np.abs(estimated_error)
    estimate = draw("estimated error", error, "magma", 0.0, float(np.nanmax(error)))
    return learned, (estimate, f"Estimated absolute error, {_range(error)}.")


def _range(values: np.ndarray) -> str:
    return f"between {np.nanmin(values):.3g} and {np.nanmax(values):.3g}"


def _map(
    title: str,
    axes_values: tuple[np.ndarray, np.ndarray],
    names: list[str],
    values: np.ndarray,
    colours: str,
    low: float,
    high: float,
) -> Figure:
    figure = Figure(figsize=(3.1, 2.5), dpi=150)
    axes = figure.add_subplot()
    first, second = axes_values
    mesh = axes.pcolormesh(second, first, values, cmap=colours, vmin=low, vmax=high, shading="nearest", rasterized=True)
    axes.set(title=title, xlabel=names[1], ylabel=names[0])
    axes.grid(visible=False)
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    return figure


def _line(axis: np.ndarray, prediction: np.ndarray, reference: np.ndarray | None, name: str) -> Figure:
    figure = Figure(figsize=(4.3, 2.6))
    axes = figure.add_subplot()
    if reference is not None:
        axes.plot(axis, reference, color=CONTRAST.marker, label="reference")
    axes.plot(axis, prediction, color=ACCENT.marker, label="prediction", linestyle=(0, (4, 2)))
    axes.set(xlabel=name, ylabel="solution")
    figure.legend(loc="outside upper left", ncols=2)
    return figure
