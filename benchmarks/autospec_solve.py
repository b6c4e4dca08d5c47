"""Iterations of conjugate gradients with polynomial preconditioners, on real matrices.

    REGIMES_TEST_DATA=... python benchmarks/autospec_solve.py

Each operator is scaled to a unit diagonal, and solved for a random right-hand side to a relative residual of 1e-8,
with each rule for the coefficients, from a probe of ten Lanczos steps and from one whose Ritz values are off by up to
5 %. ``density, n unknown`` is the density rule without the dimension of the operator. Two rules know more than that and
are there for comparison: ``exact``, Chebyshev on the exact interval, and ``tuned``, the best of 40 lower ends. A
reduction is the number of iterations without a preconditioner over that with one; the efficiency is the reduction over
the degree, so the part of the products that is not wasted. Each repetition draws another right-hand side and another
start of the probe; ratios of iterations have their standard error over these.

Needs the extra ``[peers]`` (pyamg).
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

import torch
from real_operators import real_operators
from scipy.sparse.linalg import eigsh, splu

from lightning_regimes.spectral import (
    PolynomialPreconditioner,
    ResidualRecurrence,
    SpectralProbe,
    cg,
    chebyshev,
    clipped,
    density,
    lanczos_probe,
    learned,
    minres_polynomial,
    smoothing,
    spanning,
)
from lightning_regimes.spectral.operator_forms import TensorOperator
from lightning_regimes.spectral.polynomial_preconditioner import CoefficientRule

TOLERANCE = 1e-8
NOISE = 0.05
DEPLOYABLE: dict[str, CoefficientRule] = {
    "Ritz bounds": spanning,
    "smoother": smoothing,
    "clipped": clipped,
    "density": density,
    "density, n unknown": lambda probe, degree: density(replace(probe, dimension=None), degree),
    "MINRES polynomial": minres_polynomial,
}


def extreme_eigenvalues(matrix: Any) -> tuple[float, float]:
    """Return the smallest and the largest eigenvalue, by scipy."""
    from scipy.sparse.linalg import LinearOperator

    solver = splu(matrix.tocsc())
    inverse = LinearOperator(matrix.shape, matvec=solver.solve, dtype=matrix.dtype)
    smallest = 1 / float(eigsh(inverse, 1, which="LA", return_eigenvectors=False)[0])
    return smallest, float(eigsh(matrix, 1, which="LA", return_eigenvectors=False)[0])


def solve(
    operator: TensorOperator,
    vector: torch.Tensor,
    rule: CoefficientRule | ResidualRecurrence,
    probe: SpectralProbe,
    degree: int,
) -> Any:
    """Return iterations, fall-backs and success of one solution; coefficients that are given go past the guard."""
    if isinstance(rule, ResidualRecurrence):
        preconditioner = PolynomialPreconditioner(operator, degree=degree, probe=probe)
        preconditioner.recurrence = rule
    else:
        preconditioner = PolynomialPreconditioner(operator, degree=degree, rule=rule, probe=probe)
    found = cg(operator, vector, preconditioner=preconditioner, tol=TOLERANCE)
    residual = float((vector - operator @ found.solution).norm() / vector.norm())
    return {
        "iterations": found.num_iterations,
        "fallbacks": preconditioner.num_fallbacks,
        "solved": found.converged and residual < 10 * TOLERANCE,
    }


def tuned(operator: TensorOperator, vector: torch.Tensor, probe: SpectralProbe, degree: int) -> int:
    """Return the fewest iterations of any lower end."""
    ratios = torch.linspace(math.log(1 / (16 * degree**2)), math.log(0.5), 40, dtype=torch.float64).exp()
    rules = (lambda p, d, cut=cut: chebyshev(cut * p.upper, p.upper, d) for cut in ratios)
    return min(solve(operator, vector, rule, probe, degree)["iterations"] for rule in rules)


def measure(
    name: str, operator: TensorOperator, matrix: Any, arguments: argparse.Namespace
) -> Iterable[dict[str, Any]]:
    """Yield a row for each rule, degree, probe and repetition."""
    smallest, largest = extreme_eigenvalues(matrix)
    for seed in range(arguments.repeats):
        vector = torch.randn(operator.shape[0], dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        plain = cg(operator, vector, tol=TOLERANCE).num_iterations
        for degree in arguments.degrees:
            rules = dict(DEPLOYABLE)
            if engine := arguments.engines.get(degree):
                rules["learned"] = engine
            probe = lanczos_probe(operator, num_steps=max(10, degree), seed=100 + seed)
            shallow = lanczos_probe(operator, num_steps=10, seed=100 + seed)
            noise = torch.Generator().manual_seed(1000 + seed)
            noisy, shallow_noisy = probe.noisy(NOISE, noise), shallow.noisy(NOISE, noise)
            row = {"operator": name, "size": operator.shape[0], "seed": seed, "degree": degree, "plain": plain}
            exact = chebyshev(smallest, 1.0001 * largest, degree)
            yield {**row, "rule": "exact", "noise": False, **solve(operator, vector, exact, shallow, degree)}
            for rule_name, rule in rules.items():
                deep = rule is minres_polynomial
                for noisy_row, given in ((False, probe if deep else shallow), (True, noisy if deep else shallow_noisy)):
                    solved = solve(operator, vector, rule, given, degree)
                    yield {**row, "rule": rule_name, "noise": noisy_row, **solved}
            if arguments.tuned:
                best = tuned(operator, vector, shallow, degree)
                yield {**row, "rule": "tuned", "noise": False, "iterations": best, "fallbacks": 0, "solved": True}


def geometric_mean(values: Iterable[float]) -> float:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms))


def table(rows: list[dict[str, Any]], degree: int) -> str:
    """Return the rules' reductions and ratios as Markdown."""
    chosen = [row for row in rows if row["degree"] == degree]

    def of(rule: str, noise: bool) -> list[dict[str, Any]]:
        return [row for row in chosen if row["rule"] == rule and row["noise"] == noise]

    def ratio(rule: str, other: str, noise: bool) -> str:
        """Return the mean ratio of iterations, with its standard error over the repetitions."""
        pairs = list(zip(of(rule, noise), of(other, noise and other != "exact" and other != "tuned"), strict=False))
        if not pairs:
            return "–"
        by_seed: dict[int, list[float]] = {}
        for a, b in pairs:
            by_seed.setdefault(a["seed"], []).append(a["iterations"] / b["iterations"])
        means = [geometric_mean(ratios) for ratios in by_seed.values()]
        mean = geometric_mean(means)
        if len(means) == 1 or rule == other:
            return f"{mean:.3f}"
        return f"{mean:.3f} ± {mean * stdev(map(math.log, means)) / math.sqrt(len(means)):.3f}"

    lines = [
        f"| degree {degree} | probe | reduction | least | efficiency | to exact | to density | to tuned | fall-backs "
        "| not solved |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for rule in dict.fromkeys(row["rule"] for row in chosen):
        for noise in (False, True):
            found = of(rule, noise)
            if not found:
                continue
            reductions = [row["plain"] / row["iterations"] for row in found]
            mean = geometric_mean(reductions)
            lines.append(
                f"| {rule} | {'5 % off' if noise else 'as it is'} | {mean:.2f} | {min(reductions):.2f} | "
                f"{mean / degree:.2f} | {ratio(rule, 'exact', noise)} | {ratio(rule, 'density', noise)} | "
                f"{ratio(rule, 'tuned', noise)} | {sum(row['fallbacks'] for row in found)} | "
                f"{sum(not row['solved'] for row in found)} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--degrees", type=int, nargs="+", default=[8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tuned", action="store_true", help="try 40 lower ends, which takes most of the time")
    parser.add_argument("--checkpoint", action="append", default=[], help="Lightning checkpoint of an AutoSpec to add")
    parser.add_argument("--output", type=Path, help="a JSON file for all rows")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    arguments.engines = {8: learned}
    for path in arguments.checkpoint:
        from lightning_regimes.modules import AutoSpec

        engine = AutoSpec.load_from_checkpoint(path, map_location="cpu").engine
        arguments.engines[engine.degree] = engine
    rows: list[dict[str, Any]] = []
    for name, (operator, matrix) in real_operators().items():
        rows.extend(measure(name, operator, matrix, arguments))
        print(name, {row["rule"]: row["iterations"] for row in rows if row["operator"] == name and not row["noise"]})
    for degree in arguments.degrees:
        print(f"\n{table(rows, degree)}")
    if arguments.output:
        arguments.output.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
