"""The density of the Hessian's eigenvalues over the run, and at its end."""

import numpy as np
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lightning_regimes.dashboard.number_format import power_of_ten
from lightning_regimes.dashboard.palette import ACCENT
from lightning_regimes.dashboard.panel import Panel
from lightning_regimes.dashboard.run_view import RunView
from lightning_regimes.signed_log_density import SignedLogDensity, signed_log, signed_log_density

# Densities further below the highest are not told from nothing.
_DECADES_SHOWN = 5


def density_heat_map(run: RunView) -> Panel | None:
    """Draw the density over step and eigenvalue, and the last one with a band of two standard errors."""
    measured = {record.step: record for record in run.records if "hessian/density_nodes" in record.arrays}
    if not measured:
        return None
    steps = sorted(measured)
    quadratures = [
        (measured[step].arrays["hessian/density_nodes"], measured[step].arrays["hessian/density_weights"])
        for step in steps
    ]
    densities = _on_one_ruler(quadratures)
    first_nodes, last_nodes = quadratures[0][0], quadratures[-1][0]
    last = densities[-1]
    resolved = f"±{last.threshold:.2g}"
    curve = (
        _curve(last, steps[-1]),
        f"Density of the eigenvalues at step {steps[-1]}; they reach from {last_nodes.min():.3g} to "
        f"{last_nodes.max():.3g}.",
    )
    history = (
        _map(steps, densities),
        f"Density of the eigenvalues at {len(steps)} steps; the largest goes from {first_nodes.max():.3g} to "
        f"{last_nodes.max():.3g}.",
    )
    return Panel(
        title="Density of the Hessian's eigenvalues",
        reading=(
            "Most eigenvalues crowd around zero, where the loss is flat; the few that stand apart are the steep "
            "directions. Weight below zero says how much of the ground still curves down. The axis is linear within "
            f"{resolved} and logarithmic beyond; ripples within that range are not to be trusted. The band is two "
            "standard errors."
        ),
        pictures=(history, curve) if len(steps) > 1 else (curve,),
    )


def _on_one_ruler(quadratures: list[tuple[np.ndarray, np.ndarray]]) -> list[SignedLogDensity]:
    """Broaden all quadratures on common positions, which only the whole run can tell."""
    threshold = signed_log_density(*max(quadratures, key=lambda pair: float(np.abs(pair[0]).max()))).threshold
    places = [signed_log(nodes, threshold) for nodes, _ in quadratures]
    low, high = min(float(place.min()) for place in places), max(float(place.max()) for place in places)
    width = max((high - low) / max(nodes.shape[1] for nodes, _ in quadratures), 1e-3)
    positions = np.linspace(low - 4 * width, high + 4 * width, 256)
    return [signed_log_density(*pair, threshold=threshold, width=width, positions=positions) for pair in quadratures]


def _map(steps: list[int], densities: list[SignedLogDensity]) -> Figure:
    figure = Figure(figsize=(4.3, 3.1), dpi=150)
    axes = figure.add_subplot()
    values = np.stack([density.density for density in densities], axis=1)
    floor, top = _range(values)
    mesh = axes.pcolormesh(
        steps,
        densities[0].positions,
        values.clip(min=floor),
        norm=LogNorm(floor, top),
        cmap="viridis",
        shading="nearest",
        rasterized=True,
    )
    axes.set(xlabel="step", ylabel="eigenvalue", title="over the run")
    if len(steps) > 1:
        # Nothing was measured before the first and after the last.
        axes.set_xlim(steps[0], steps[-1])
    axes.grid(visible=False)
    _label_eigenvalues(axes.yaxis, densities[0])
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=28)
    bar.set_label("density per decade")
    bar.outline.set_visible(False)
    _label_powers(bar.ax.yaxis, floor, top)
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    return figure


def _curve(density: SignedLogDensity, step: int) -> Figure:
    figure = Figure(figsize=(4.3, 3.1))
    axes = figure.add_subplot()
    floor, top = _range(density.density)
    error = 2 * np.nan_to_num(density.standard_error)
    low, high = (density.density - error).clip(min=floor), (density.density + error).clip(min=floor)
    axes.fill_between(density.positions, low, high, color=ACCENT.marker, alpha=0.3, linewidth=0)
    axes.plot(density.positions, density.density.clip(min=floor), color=ACCENT.marker, linewidth=1.2)
    axes.set(xlabel="eigenvalue", ylabel="density per decade", yscale="log", ylim=(floor, 2 * top))
    axes.set_title(f"at step {step}")
    _label_eigenvalues(axes.xaxis, density)
    _label_powers(axes.yaxis, floor, top)
    return figure


def _range(values: np.ndarray) -> tuple[float, float]:
    top = float(values.max()) or 1.0
    return top * 10.0**-_DECADES_SHOWN, top


def _label_eigenvalues(axis: Axis, density: SignedLogDensity) -> None:
    """Label zero and the decades above the threshold, as far as the axis reaches."""
    first = int(np.ceil(np.log10(density.threshold)))
    last = int(np.ceil(np.log10(np.abs(density.grid).max())))
    ticks = {0.0: "0"}
    for power in range(first, last + 1):
        place = float(signed_log(10.0**power, density.threshold))
        ticks |= {place: power_of_ten(power), -place: f"−{power_of_ten(power)}"}
    low, high = density.positions[0], density.positions[-1]
    # The labels beside zero would run into its own.
    inside = [place for place in ticks if low <= place <= high and (place == 0 or abs(place) > 0.09 * (high - low))]
    axis.set_ticks(inside, [ticks[place] for place in inside])


def _label_powers(axis: Axis, low: float, high: float) -> None:
    powers = range(int(np.ceil(np.log10(low))), int(np.floor(np.log10(high))) + 1)
    axis.set_ticks([10.0**power for power in powers], [power_of_ten(power) for power in powers])
    axis.set_ticks([], minor=True)
