"""How the error of a refined field goes with the number of refinements."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import lightning as L
import numpy as np

from lightning_regimes.callbacks.diagnostic import Diagnostic
from lightning_regimes.callbacks.measurement import Measurement
from lightning_regimes.landscape.figure_colours import DEFAULT_COLOURS
from lightning_regimes.probe import LossProbe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ARRAYS = ("vrmse", "bands", "wavenumbers", "spectra", "reference_spectrum", "error_spectra", "updates")
_BANDS = ("low", "mid", "high")


class RefinementCurve(Diagnostic):
    """Records the error after each refinement, and its spectra, of a module that offers ``refinement_curve()``.

    That method returns an object with ``num_steps`` K and, for n refinements and s wavenumbers, the arrays ``vrmse``
    (n + 1,), ``bands`` (n + 1, 3), ``wavenumbers`` (s,), ``spectra`` and ``error_spectra`` (n + 1, s),
    ``reference_spectrum`` (s,), ``updates`` (n,), and the numbers ``contraction_rate``, ``contraction_norm``,
    ``error_floor``, infinite where there is no bound, and ``num_nonfinite``.

    Args:
        at_end: take one when training ends.
        overhead_budget: none by default: curves are taken at explicit times.
        options: as for :class:`~lightning_regimes.callbacks.diagnostic.Diagnostic`.
    """

    name: ClassVar[str] = "refinement"

    def __init__(self, *, at_end: bool = True, overhead_budget: float = 0.0, **options: Any) -> None:
        super().__init__(at_end=at_end, overhead_budget=overhead_budget, **options)

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule, num_parameters: int) -> None:
        """Require the method."""
        if not callable(getattr(pl_module, "refinement_curve", None)):
            raise TypeError(
                f"RefinementCurve needs a module with a method `refinement_curve()`; {type(pl_module).__name__} has "
                "none"
            )

    def expected_units(self) -> int:
        """One curve."""
        return 1

    def try_unit(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> float:
        """Take one curve."""
        start = time.perf_counter()
        pl_module.refinement_curve()  # type: ignore[operator]
        return time.perf_counter() - start

    def measure(self, probe: LossProbe, trainer: L.Trainer, pl_module: L.LightningModule) -> Measurement:
        """Take the curve."""
        curve = pl_module.refinement_curve()  # type: ignore[operator]
        arrays = {f"refinement/{name}": getattr(curve, name).detach().cpu().double().numpy() for name in _ARRAYS}
        vrmse, bands = arrays["refinement/vrmse"], arrays["refinement/bands"]
        meant = int(curve.num_steps)
        best = int(np.argmin(np.where(np.isfinite(vrmse), vrmse, np.inf)))
        scalars = {
            "refinement/vrmse_base": float(vrmse[0]),
            "refinement/vrmse_refined": float(vrmse[meant]),
            "refinement/vrmse_best": float(vrmse[best]),
            "refinement/best_step": float(best),
            "refinement/vrmse_last": float(vrmse[-1]),
            "refinement/contraction_rate": float(curve.contraction_rate),
            "refinement/contraction_norm": float(curve.contraction_norm),
            "refinement/num_nonfinite": float(curve.num_nonfinite),
            "refinement/num_evaluations": float(len(vrmse)),
        }
        for index, band in enumerate(_BANDS):
            scalars[f"refinement/{band}_ratio"] = float(bands[meant, index] / bands[0, index])
        if math.isfinite(curve.error_floor):
            scalars["refinement/error_floor"] = float(curve.error_floor)
        return Measurement(
            scalars=scalars,
            arrays=arrays,
            context={"num_steps": meant},
            figures={
                "refinement/curve": lambda: draw_curve(arrays, meant),
                "refinement/spectrum": lambda: draw_spectra(arrays, meant),
            },
        )


def draw_curve(arrays: Mapping[str, np.ndarray], num_steps: int) -> Figure:
    """Draw the error, and its part in bands of the wavenumber, over the number of refinements."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    total, banded = figure.subplots(1, 2)
    vrmse, bands = arrays["refinement/vrmse"], arrays["refinement/bands"]
    steps = np.arange(len(vrmse))
    total.plot(steps, vrmse, "o-", color=DEFAULT_COLOURS.accent, markersize=3)
    total.axhline(vrmse[0], color=DEFAULT_COLOURS.muted, linestyle=":", label="base")
    total.set(title="error", ylabel="VRMSE", ylim=(0, None))
    colours = (DEFAULT_COLOURS.accent, DEFAULT_COLOURS.ink, DEFAULT_COLOURS.contrast)
    for index, (name, colour) in enumerate(zip(_BANDS, colours, strict=True)):
        banded.plot(steps, bands[:, index] / bands[0, index], "o-", color=colour, markersize=3, label=name)
    banded.set(title="error by wavenumber, over that of the base", ylabel="mean square ratio", yscale="log")
    for axes in (total, banded):
        _mark_steps(axes, num_steps)
    return figure


def draw_spectra(arrays: Mapping[str, np.ndarray], num_steps: int) -> Figure:
    """Draw the spectra of fields and of their errors after none, some, K and all refinements."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    fields, errors = figure.subplots(1, 2, sharex=True)
    waves = arrays["refinement/wavenumbers"][1:]
    last = len(arrays["refinement/vrmse"]) - 1
    shown = sorted({0, 1, num_steps // 2, num_steps, last})
    for step in shown:
        colour = colormaps["viridis"](0.9 * step / last)
        fields.plot(waves, arrays["refinement/spectra"][step, 1:], color=colour, label=f"step {step}")
        errors.plot(waves, arrays["refinement/error_spectra"][step, 1:], color=colour, label=f"step {step}")
    fields.plot(waves, arrays["refinement/reference_spectrum"][1:], color=DEFAULT_COLOURS.ink, ls="--", label="truth")
    for axes, title in ((fields, "fields"), (errors, "errors")):
        axes.set(title=title, xlabel="wavenumber", ylabel="mean square", xscale="log", yscale="log")
        axes.legend(fontsize="small")
    return figure


def _mark_steps(axes: Axes, num_steps: int) -> None:
    axes.axvline(num_steps, color=DEFAULT_COLOURS.muted, linewidth=0.8)
    axes.set_xlabel("refinements (line: those meant)")
    axes.legend(fontsize="small")
