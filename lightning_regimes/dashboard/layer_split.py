"""The loss over the splits of the learning rate among the layers."""

import numpy as np
from matplotlib.figure import Figure

from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.palette import ACCENT, CONTRAST, MUTED
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView


def layer_split(run: RunView) -> Panel | None:
    """Draw the first measured loss over the share of the first layer, after each number of steps."""
    keys = ("layer_split/shares", "layer_split/losses")
    record = next((record for record in run.records if all(key in record.arrays for key in keys)), None)
    if record is None or not np.isfinite(record.arrays["layer_split/losses"]).any():
        return None
    shares, losses = (record.arrays[key] for key in keys)
    theory = record.arrays.get("layer_split/theory_losses")
    steps = record.context.get("steps", range(1, len(losses) + 1))
    layers = record.context.get("layers", ("first", "second"))
    pictures = []
    for index, count in enumerate(steps):
        figure = Figure(figsize=(3.4, 2.8))
        axes = figure.add_subplot()
        axes.plot(shares, losses[index], "o", color=ACCENT.marker, label="measured", zorder=3)
        if theory is not None:
            axes.plot(shares, theory[index], color=CONTRAST.marker, label="theory")
        axes.axvline(1 / len(layers), color=MUTED.marker, linewidth=0.9, linestyle=(0, (4, 3)), label="equal")
        after = "a step" if count == 1 else f"{count} steps"
        axes.set(xlabel=f"share of {layers[0]}", ylabel=f"loss after {after}")
        figure.legend(loc="outside upper left", ncols=3)
        if np.isfinite(losses[index]).any():
            best = int(np.nanargmin(np.where(np.isfinite(losses[index]), losses[index], np.nan)))
            text = (
                f"Loss after {after} from step {record.step}: lowest, {short(losses[index][best])}, where {layers[0]} "
            )
            pictures.append((figure, text + f"has {100 * shares[best]:.0f} % of the sum of the learning rates."))
    return Panel(
        title="Split of the learning rate",
        reading=(
            "The sum of the layers' learning rates is the same everywhere. A lowest point at an end says that the next "
            "step would do better with unequal rates; one at the dashed line, that equal rates are right."
        ),
        pictures=tuple(pictures),
    )
