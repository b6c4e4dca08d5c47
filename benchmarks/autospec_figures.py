"""Figures of the learned preconditioner, from the matrices of the package and the rows of ``autospec_solve.py``.

python benchmarks/autospec_figures.py --rows benchmarks/results/autospec_solve.json --folder docs/images
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import matplotlib as mpl
import torch
from matplotlib.figure import Figure

from lightning_regimes.spectral import PolynomialPreconditioner, cg, chebyshev, clipped, density, lanczos_probe, learned
from lightning_regimes.spectral.matrix_files import SHIPPED_MATRICES, read_matrix, sparse_operator, unit_diagonal

RULES = {"clipped": clipped, "density": density, "learned": learned}
COLOURS = {"exact": "#999999", "clipped": "#d98200", "density": "#3a7d44", "learned": "#1f5fa8"}
NOISES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)


def residual_polynomials() -> Figure:
    """Draw the residual polynomials on two matrices, with their eigenvalues below."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2, sharey=True), ("poisson_32", "nos5"), strict=True):
        operator = sparse_operator(unit_diagonal(read_matrix(name)))
        eigenvalues = torch.linalg.eigvalsh(operator @ torch.eye(operator.shape[0], dtype=torch.float64))
        probe = lanczos_probe(operator)
        points = torch.logspace(math.log10(float(eigenvalues[0]) / 2), math.log10(float(probe.upper)), 600)
        points = points.to(torch.float64)
        drawn = {
            "exact": chebyshev(eigenvalues[0], 1.0001 * eigenvalues[-1], 8),
            "clipped": clipped(probe, 8),
            "learned": learned(probe),
        }
        for label, recurrence in drawn.items():
            text = {"exact": "Chebyshev, exact interval", "clipped": "Chebyshev, clipped", "learned": "learned"}[label]
            axes.plot(points, recurrence.residual(points), color=COLOURS[label], linewidth=1.4, label=text)
        shown = eigenvalues[:: max(1, len(eigenvalues) // 150)]
        axes.plot(shown, torch.full_like(shown, -0.55), "|", color="#555555", markersize=5, alpha=0.5)
        axes.set(xscale="log", ylim=(-0.62, 1.05), xlabel="λ", title=name)
        axes.axhline(0, color="#bbbbbb", linewidth=0.6, zorder=0)
    figure.axes[0].set_ylabel("r(λ)")
    figure.axes[0].legend(fontsize="small", frameon=False)
    return figure


def iterations(rows: list[dict[str, Any]]) -> Figure:
    """Draw the reduction of iterations of each matrix."""
    chosen = [row for row in rows if row["degree"] == 8 and not row["noise"]]
    names = sorted({row["operator"] for row in chosen}, key=lambda name: _reduction(chosen, name, "learned"))
    figure = Figure(figsize=(7.5, 0.5 + 0.3 * len(names)), layout="constrained")
    axes = figure.subplots()
    for rule, colour in COLOURS.items():
        values = [_reduction(chosen, name, rule) for name in names]
        label = {"exact": "Chebyshev, exact interval"}.get(rule, rule)
        axes.plot(values, range(len(names)), "o", color=colour, markersize=6 if rule == "learned" else 4, label=label)
    axes.set_yticks(range(len(names)), labels=[f"{name}  {_plain(chosen, name):.0f}" for name in names])
    axes.axvline(8, color="#bbbbbb", linewidth=0.8)
    axes.set(xlim=(0, 8.4), xlabel="times fewer iterations than those beside the names")
    axes.grid(axis="y", color="#eeeeee")
    axes.legend(fontsize="small", frameon=False, loc="upper left")
    return figure


def probe_quality() -> Figure:
    """Draw the reduction of iterations over the noise of the Ritz values."""
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.subplots()
    operators = [sparse_operator(unit_diagonal(read_matrix(name))) for name in (*SHIPPED_MATRICES, "poisson_32")]
    plain = [cg(operator, _vector(operator.shape[0])).num_iterations for operator in operators]
    for name, rule in RULES.items():
        means = []
        for noise in NOISES:
            logarithms = []
            for operator, without in zip(operators, plain, strict=True):
                for seed in range(3):
                    probe = lanczos_probe(operator, seed=seed).noisy(noise, torch.Generator().manual_seed(seed))
                    preconditioner = PolynomialPreconditioner(operator, rule=rule, probe=probe)
                    found = cg(operator, _vector(operator.shape[0]), preconditioner=preconditioner)
                    logarithms.append(math.log(without / found.num_iterations))
            means.append(math.exp(sum(logarithms) / len(logarithms)))
        axes.plot([100 * noise for noise in NOISES], means, "o-", color=COLOURS[name], label=name, markersize=4)
    axes.set(xlabel="Ritz values off by up to, per cent", ylabel="times fewer iterations, geometric mean")
    axes.legend(fontsize="small", frameon=False)
    return figure


def _vector(size: int) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _plain(rows: list[dict[str, Any]], name: str) -> float:
    found = [row["plain"] for row in rows if row["operator"] == name]
    return sum(found) / len(found)


def _reduction(rows: list[dict[str, Any]], name: str, rule: str) -> float:
    found = [row["plain"] / row["iterations"] for row in rows if row["operator"] == name and row["rule"] == rule]
    return math.exp(sum(map(math.log, found)) / len(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, default=Path("benchmarks/results/autospec_solve.json"))
    parser.add_argument("--folder", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    # The same bytes for the same numbers.
    mpl.rcParams["svg.hashsalt"] = "autospec"
    figures = {"autospec_polynomials": residual_polynomials(), "autospec_probe_quality": probe_quality()}
    if arguments.rows.is_file():
        figures["autospec_iterations"] = iterations(json.loads(arguments.rows.read_text()))
    for name, figure in figures.items():
        figure.savefig(arguments.folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
