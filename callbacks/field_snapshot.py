"""The solution that a network has learned, beside the reference, on a grid."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import numpy as np
from torch import Tensor

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class FieldSnapshot(Diagnostic):
    """Records prediction, reference and error maps of a module that offers ``field_on_grid()``.

    That method returns the coordinates of the two axes, ``axis_0`` (n,) and ``axis_1`` (m,), and on their grid the
    ``prediction`` and the ``reference``, (n, m), or an ``estimated_error`` where that is not known, and of an operator
    its ``input``, too.

    Args:
        at_end: take one when training ends.
        overhead_budget: none by default: the pictures are taken at explicit times.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.
    """

    name: ClassVar[str] = "field"

    def __init__(self, *, at_end: bool = True, overhead_budget: float = 0.0, **options: Any) -> None:
        super().__init__(at_end=at_end, overhead_budget=overhead_budget, **options)

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Require the method."""
        if not callable(getattr(pl_module, "field_on_grid", None)):
            raise TypeError(
                f"FieldSnapshot needs a module with a method `field_on_grid()`; {type(pl_module).__name__} has none"
            )

    def expected_units(self) -> int:
        """One evaluation on the grid."""
        return 1

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Evaluate the grid once."""
        start = time.perf_counter()
        pl_module.field_on_grid()  # type: ignore[operator]
        return time.perf_counter() - start

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Evaluate the grid."""
        fields: Mapping[str, Tensor] = pl_module.field_on_grid()  # type: ignore[operator]
        names = [name for name in _FIELDS if name in fields]
        arrays = {f"field/{name}": fields[name].detach().cpu().double().numpy() for name in names}
        prediction, reference = arrays["field/prediction"], arrays.get("field/reference")
        scalars: dict[str, float] = {"field/num_evaluations": prediction.size}
        if reference is not None:
            scalars["field/rel_l2"] = float(np.linalg.norm(prediction - reference) / np.linalg.norm(reference))
        axis_names = fields.get("axis_names", ("axis 0", "axis 1"))
        return Measurement(
            scalars=scalars,
            arrays=arrays,
            context={"axis_names": list(axis_names)},
            figures={"field/maps": lambda: draw_maps(arrays, axis_names)},
        )


_FIELDS = ("axis_0", "axis_1", "prediction", "reference", "estimated_error", "input")


def draw_maps(arrays: Mapping[str, np.ndarray], axis_names: Any) -> Figure:
    """Draw input, reference, prediction and absolute error, as far as there are any; the middle two share a scale."""
    from matplotlib.figure import Figure

    x, y = arrays["field/axis_0"], arrays["field/axis_1"]
    prediction, reference = arrays["field/prediction"], arrays.get("field/reference")
    shown = prediction if reference is None else reference
    scale = ("viridis", float(shown.min()), float(shown.max()))
    panels: list[tuple[str, np.ndarray, str, float | None, float | None]] = [("prediction", prediction, *scale)]
    if reference is not None:
        error = np.abs(prediction - reference)
        panels = [("reference", reference, *scale), *panels, ("absolute error", error, "magma", 0.0, None)]
    elif "field/estimated_error" in arrays:
        panels.append(("estimated error", np.abs(arrays["field/estimated_error"]), "magma", 0.0, None))
    if "field/input" in arrays:
        panels.insert(0, ("input", arrays["field/input"], "viridis", None, None))
    figure = Figure(figsize=(11 / 3 * len(panels), 3), layout="constrained")
    for axes, (title, values, colours, bottom, top) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
    ):
        image = axes.pcolormesh(y, x, values, cmap=colours, vmin=bottom, vmax=top, shading="nearest", rasterized=True)
        axes.set(title=title, xlabel=axis_names[1], ylabel=axis_names[0])
        figure.colorbar(image, ax=axes)
    return figure
