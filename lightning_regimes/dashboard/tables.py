"""The report's tables: what the diagnostics cost, and the last value of everything."""

import html
import math
from collections.abc import Sequence

from lightning_regimes.dashboard.html_table import html_table
from lightning_regimes.dashboard.number_format import short
from lightning_regimes.dashboard.palette import regime_colour
from lightning_regimes.dashboard.run_view import RunView, generalization
from lightning_regimes.recording import describe

# A spectrum may have hundreds, which its panel shows better.
_MAX_EIGENVALUES = 10
_ARROWS = {"lower": "↓", "higher": "↑", "neither": ""}


def overview_table(runs: Sequence[RunView]) -> str:
    """One row a run: its regime and the numbers that decide it."""
    rows = []
    for index, run in enumerate(runs):
        found = generalization(run.verdict) if run.verdict else None
        numbers = (
            run.number("regime/normalized_loss"),
            found[0] if found else None,
            run.number("hessian/lambda_1"),
        )
        texts = ["–" if value is None else short(value) for value in numbers]
        margin = run.number("regime/margin")
        texts.insert(2, "–" if margin is None else f"× {short(math.exp(margin) if margin < 700 else math.inf)}")
        cells = "".join(f'<td class="number">{text}</td>' for text in texts)
        colour = f"--regime: var(--{regime_colour(run.label).name})"
        chip = f'<td class="chip" style="{colour}">{html.escape(run.label or "no verdict")}</td>'
        name = f'<td><a href="#run-{index}">{html.escape(run.name)}</a></td>'
        rows.append(f'<tr><td class="number">{index + 1}</td>{name}{chip}{cells}</tr>')
    return html_table(("#no.", "run", "regime", "#loss / reference", "#error or held-out", "#margin", "#λ₁"), rows)


def cost_table(run: RunView) -> str:
    """One row a diagnostic: how often it ran, how long, and what that is of the training time."""
    rows = []
    for diagnostic in sorted({record.diagnostic for record in run.records}):
        records = [record for record in run.records if record.diagnostic == diagnostic]
        seconds = sum(record.scalars.get(f"{diagnostic}/seconds", 0.0) for record in records)
        work = [
            (sum(record.scalars.get(f"{diagnostic}/{unit}", 0.0) for record in records), name)
            for unit, name in (
                ("num_matvecs", "Hessian-vector products"),
                ("num_evaluations", "evaluations"),
                ("num_decompositions", "decompositions of matrices"),
            )
        ]
        done = ", ".join(f"{short(count)} {name}" for count, name in work if count) or "–"
        overhead = run.number(f"{diagnostic}/overhead")
        share = "–" if overhead is None else f"{100 * overhead:.3g} %"
        rows.append(
            f"<tr><td>{html.escape(diagnostic)}</td>"
            f'<td class="number">{len(records)}</td><td class="number">{short(seconds)} s</td>'
            f'<td class="number">{share}</td><td>{html.escape(done)}</td></tr>'
        )
    return html_table(("diagnostic", "#measured", "#time", "#of training", "work"), rows, kind="costs")


def values_table(run: RunView) -> str:
    """One row a key: its last value and what the vocabulary says about it."""
    rows = []
    for key, last in sorted(run.last.items(), key=lambda item: (item[0].partition("/")[0], describe(item[0]).key)):
        if (index := key.removeprefix("hessian/lambda_")).isdigit() and int(index) > _MAX_EIGENVALUES:
            continue
        quantity = describe(key)
        value = html.escape(last.value) if isinstance(last.value, str) else short(last.value)
        unit = f" {html.escape(quantity.unit)}" if quantity.unit and quantity.unit != "loss" else ""
        rows.append(
            f'<tr><td><code>{html.escape(key)}</code></td><td class="number">{value}{unit}</td>'
            f'<td class="number step">{last.step}</td><td class="better">{_ARROWS[quantity.direction]}</td>'
            f'<td class="meaning">{html.escape(quantity.meaning)}</td></tr>'
        )
    return html_table(("key", "#last value", "#step", "better", "meaning"), rows, kind="values")
